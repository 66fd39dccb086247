"""Commands: a competition on Kaggle."""
