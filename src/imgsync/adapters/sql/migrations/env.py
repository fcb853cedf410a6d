"""Runs the migrations on the connection that `schema.py` gives, in its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
