"""Bodies on their way: in from clients, out to them, and from node to node."""
