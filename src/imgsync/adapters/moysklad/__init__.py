"""HTTP adapter of the MoySklad JSON API remap 1.2."""
