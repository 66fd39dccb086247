"""Commands: before training: the data of a competition."""
