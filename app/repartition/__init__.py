"""Raising a tier's partitions with the states of its sensors: `continuum topics repartition`."""
