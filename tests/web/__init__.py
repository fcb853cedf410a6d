"""The pages and what guards them, in this process."""
