"""Builders and faults that tests of the client share."""
