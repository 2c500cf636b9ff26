"""Counters and gauges of a worker, as Prometheus reads them from `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BLOCKS = Counter("continuum_blocks", "Sensor blocks decoded", ["tier"])
SAMPLES = Counter("continuum_samples", "Samples in them", ["tier"])
FEATURES = Counter("continuum_features", "Feature records sent", ["tier"])
EVENTS = Counter("continuum_block_events", "Blocks out of the ordinary: dropped, after a gap, ...", ["tier", "event"])
DEAD_LETTERS = Counter("continuum_dead_letters", "Inputs that could not be processed", ["tier", "reason"])
BATCH_SECONDS = Histogram("continuum_batch_seconds", "Computation on one partition batch", ["tier"])
LAG = Gauge("continuum_lag", "Messages appended to a worker's partitions and not processed yet", ["tier"])
SENSORS = Gauge("continuum_sensors", "Sensors in memory", ["tier"])
HELD = Gauge("continuum_held_sensors", "Sensors whose blocks wait for another tier to give up their state", ["tier"])
EVICTED = Counter("continuum_evicted_sensors", "Sensors that left memory after a time without blocks", ["tier"])
HANDOFFS = Counter("continuum_handoffs", "Sensors that changed their tier, by how", ["tier", "kind"])
UPGRADED = Counter(
    "continuum_upgraded_sensors",
    "Sensors that went over to a changed pipeline: warm or shadow where it had settled, cold where it had not",
    ["tier", "kind"],
)
HANDOFF_SECONDS = Histogram(
    "continuum_handoff_seconds",
    "How long a sensor's blocks were held",
    ["tier"],
    buckets=(
        0.005,
        0.01,
        0.02,
        0.03,
        0.05,
        0.07,
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.4,
        0.5,
        0.75,
        1.0,
        1.5,
        2.0,
        3.0,
        5.0,
        10.0,
    ),
)

CHECKPOINTS = Counter("continuum_checkpoints", "Checkpoints of a partition")
CHECKPOINT_SECONDS = Histogram("continuum_checkpoint_seconds", "From a checkpoint's start to its acks")
SNAPSHOT_BYTES = Counter("continuum_snapshot_bytes", "Bytes of snapshots written to the table")

MIRROR_UP = Gauge("continuum_mirror_up", "Whether Redis took the last write to the mirror", ["tier"])
MIRROR_PENDING = Gauge("continuum_mirror_pending", "Snapshots that the mirror does not have yet", ["tier"])
MIRROR_SAVED = Counter("continuum_mirror_saved", "Snapshots saved in the mirror", ["tier"])
MIRROR_REFUSED = Counter("continuum_mirror_refused", "Snapshots refused by the mirror: it has a newer one", ["tier"])
MIRROR_RESYNCED = Counter("continuum_mirror_resynced", "Snapshots written again after Redis lost some", ["tier"])

INGEST_BLOCKS = Counter(
    "continuum_ingest_blocks", "Blocks taken from outside Kafka, and sent to a tier", ["by", "tier"]
)
INGEST_REFUSED = Counter(
    "continuum_ingest_refused", "Blocks from outside Kafka that no worker would take", ["by", "reason"]
)
