"""Ingest: blocks from outside Kafka, held to the workers' own rules and sent to their sensors' tiers. No Faust here."""
