"""Measuring, with the conditions, the contenders in turn, and minimum, median and maximum."""
