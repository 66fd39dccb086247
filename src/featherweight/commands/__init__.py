"""One short function a command; the work is done elsewhere, and imported only when it is needed."""
