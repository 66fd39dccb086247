"""The report of a run: evidence gathered, figures drawn, and one HTML file that needs no network."""
