"""The corpus of known miscounts: see README.md."""
