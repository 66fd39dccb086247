"""Search: recipe keys tried by optuna, each candidate weighed before it is trained."""
