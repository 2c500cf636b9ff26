"""The Faust agents, one module a tier, each a thin loop over its tier's partition batches."""
