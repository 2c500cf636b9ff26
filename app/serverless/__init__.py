"""The on-demand function: the same engine, run by events."""
