"""Encryption of stored secrets, and where its keys are kept."""
