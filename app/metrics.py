"""Counters and gauges of a worker, as Prometheus reads them from `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BLOCKS = Counter("continuum_blocks", "Sensor blocks decoded", ["tier"])
SAMPLES = Counter("continuum_samples", "Samples in them", ["tier"])
FEATURES = Counter("continuum_features", "Feature records sent", ["tier"])
REPLAYED = Counter("continuum_replayed_blocks", "Blocks skipped: the restored state had counted them", ["tier"])
LATE = Counter("continuum_late_blocks", "Blocks dropped: duplicates, or later than their successor", ["tier"])
GAPS = Counter("continuum_gaps", "Blocks with samples missing before them", ["tier"])
DEAD_LETTERS = Counter("continuum_dead_letters", "Inputs that could not be processed", ["tier", "reason"])
BATCH_SECONDS = Histogram("continuum_batch_seconds", "Computation on one partition batch", ["tier"])
SENSORS = Gauge("continuum_sensors", "Sensors in memory", ["tier"])

CHECKPOINTS = Counter("continuum_checkpoints", "Checkpoints of a partition")
CHECKPOINT_SECONDS = Histogram("continuum_checkpoint_seconds", "From a checkpoint's start to its acks")
SNAPSHOT_BYTES = Counter("continuum_snapshot_bytes", "Bytes of snapshots written to the table")

MIRROR_UP = Gauge("continuum_mirror_up", "Whether Redis took the last write to the mirror")
MIRROR_PENDING = Gauge("continuum_mirror_pending", "Snapshots that the mirror does not have yet")
MIRROR_SAVED = Counter("continuum_mirror_saved", "Snapshots saved in the mirror")
MIRROR_REFUSED = Counter("continuum_mirror_refused", "Snapshots refused by the mirror: it has a newer one")
