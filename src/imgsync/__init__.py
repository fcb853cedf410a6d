"""Copies product, bundle and variant images from a main MoySklad account to its child accounts."""
