"""The best score in the time there is: what to train, at which size and for how long, decided before training."""
