"""Snapshots of one vault copied into another."""
