"""What runs inside a worker: a tier's batches, its features, its checkpoints and the mirror."""
