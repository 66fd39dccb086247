"""From files to arrays: sources list, packs decode, splits divide."""
