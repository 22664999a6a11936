"""Bodies in an object store, through opendal."""
