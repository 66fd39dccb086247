"""What `inspect` finds: what is wrong with a data set, in the terminal and on a page."""
