"""What a folder is, worked out from its names, tables and a few files."""
