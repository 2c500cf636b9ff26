"""Adaptive and state-space filters."""
