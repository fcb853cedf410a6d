"""The imgsync command line."""
