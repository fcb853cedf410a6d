"""Ports: what the use cases need from the outside; adapters implement them.

All times are aware datetimes in UTC. Every method may raise the `ImgsyncError`s it documents.
"""
