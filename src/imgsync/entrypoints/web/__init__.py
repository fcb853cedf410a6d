"""The web server: pages, and what others call by HTTP."""
