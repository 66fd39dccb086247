"""The logbook of experiments: its rows rerun, and its claims tested."""
