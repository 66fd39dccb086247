"""Commands for a competition on Kaggle."""
