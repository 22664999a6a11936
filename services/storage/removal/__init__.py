"""What may be removed, what holds it, and how it goes for good."""
