"""Commands: recipes and models, without training."""
