"""SFTP, which opendal's wheels do not speak: the same calls of a store, through asyncssh."""
