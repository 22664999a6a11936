"""What a node does by itself, and what an operator orders of it: copies complete, homes right, files whole."""
