"""Changes of sample rate, and alignment in time."""
