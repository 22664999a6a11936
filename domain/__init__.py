"""What client and services must agree on and neither may own: pure functions and dataclasses, no I/O."""
