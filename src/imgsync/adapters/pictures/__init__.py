"""Pictures, looked into with Pillow."""
