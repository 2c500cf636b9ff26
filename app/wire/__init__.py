"""The wire contract: sensor blocks in, feature records and dead letters out. No Faust here, no I/O."""
