"""Buckets that follow those of another cluster."""
