"""Commands for the data of a competition."""
