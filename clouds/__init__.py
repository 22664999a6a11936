"""Object stores and WebDAV through opendal, as client and storage nodes both call them."""
