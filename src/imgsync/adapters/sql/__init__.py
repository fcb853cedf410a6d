"""SQLAlchemy adapters: queue, accounts, settings, sync records, clock."""
