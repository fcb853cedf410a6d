"""File storage on the local disk."""
