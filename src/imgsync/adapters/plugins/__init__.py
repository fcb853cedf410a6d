"""pluggy hooks and the registry they fill."""
