"""Pure core: rules and ports, no I/O."""
