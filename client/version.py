"""The version of the client, as it tells servers and people."""

VERSION = "0.1.0"
