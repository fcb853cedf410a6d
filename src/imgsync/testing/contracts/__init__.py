"""Suites that prove an adapter of a port: one class each, which a test class inherits from."""
