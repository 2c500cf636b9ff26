"""Moving and running statistics of a series."""
