"""Ways in: command line, configuration, wiring."""
