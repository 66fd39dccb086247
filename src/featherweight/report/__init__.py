"""The report of a run: figures, and one HTML file that needs no network."""
