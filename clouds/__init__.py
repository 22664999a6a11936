"""Stores on the net, as client and storage nodes both call them."""
