"""The training of a model from arrays of images and labels."""
