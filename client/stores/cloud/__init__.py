"""Vaults on object stores and WebDAV, through opendal, which is imported when such a vault is opened."""

from client.stores.cloud.location import Location
from client.stores.cloud.remembered import Remembered
from client.stores.cloud.store import CloudStore

__all__ = ["CloudStore", "Location", "Remembered"]
