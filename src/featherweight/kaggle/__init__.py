"""The loop around a run: data in from Kaggle, submissions out, scores back. `client` is the one adapter."""
