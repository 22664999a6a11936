"""A storage node under many clients at once, beside rclone's server of restic's protocol."""
