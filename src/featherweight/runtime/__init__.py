"""Where a run works: its device, its processes, its randomness, and how it is interrupted."""
