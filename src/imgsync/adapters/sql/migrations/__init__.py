"""Versions of the schema. A change of `tables.py` is a new file in `versions`, and a new HEAD."""

HEAD = "0012"
"""The revision that this version of imgsync works with."""

FIRST = "0001"
"""The revision of databases that were made before revisions were noted in them."""
