"""Commands: the tool itself."""
