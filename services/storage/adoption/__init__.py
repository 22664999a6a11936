"""Files that were copied to a node by hand, entered in the catalogue."""
