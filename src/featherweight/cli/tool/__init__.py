"""Commands for the tool itself."""
