"""From images to probabilities, and from probabilities to a score with its interval."""
