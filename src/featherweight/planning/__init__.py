"""Choose what to train in a given time: which network, at which image size, and for how many epochs."""
