"""Use cases: they drive the ports and hold no I/O of their own."""
