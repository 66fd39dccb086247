"""Where a run executes: its device, its processes, its randomness, and how it is interrupted."""
