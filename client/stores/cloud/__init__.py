"""Vaults on stores of the net, through opendal and asyncssh, which are imported when such a vault is opened."""

from client.stores.cloud.location import Location
from client.stores.cloud.remembered import Remembered
from client.stores.cloud.store import CloudStore

__all__ = ["CloudStore", "Location", "Remembered"]
