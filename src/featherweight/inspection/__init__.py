"""The command `inspect`: problems of a data set, in the terminal and on a page."""
