"""Commands: finished runs."""
