"""What snapshots reach: every place of a vault's index numbered, those that are needed marked, blobs read by packs.

Kept true: memory does not grow with the vault beyond some bytes a blob; the rest lies in temporary files without names.
"""
