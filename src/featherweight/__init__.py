"""featherweight: the best image classifier that makes the weight."""

__version__ = "0.1.0"
