"""The task queue on procrastinate, a distributed engine in PostgreSQL."""
