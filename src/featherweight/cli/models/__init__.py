"""Commands for recipes and models, without training."""
