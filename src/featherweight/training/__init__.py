"""From arrays to weights."""
