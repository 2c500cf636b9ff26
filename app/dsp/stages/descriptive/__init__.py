"""Measures that describe the last stretch of a series."""
