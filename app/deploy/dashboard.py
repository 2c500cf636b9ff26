"""The Grafana dashboard of the workers' metrics."""

from __future__ import annotations

from itertools import count
from math import ceil
from typing import Any, NamedTuple

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8

_TIER = '{tier=~"$tier", instance=~"$instance"}'
_WORKER = '{instance=~"$instance"}'


class Panel(NamedTuple):
    """A chart: its queries by their legends, and the unit as Grafana names it."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    about: str = ""


def _rate(metric: str, by: str = "tier") -> dict[str, str]:
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}{_TIER}[$__rate_interval]))"}


def _sum(metric: str) -> dict[str, str]:
    return {"{{tier}}": f"sum by (tier) ({metric}{_TIER})"}


def _quantiles(metric: str, by: str = "tier", labels: str = _TIER) -> dict[str, str]:
    rates = f"sum by (le, {by}) (rate({metric}_bucket{labels}[$__rate_interval]))"
    return {f"{{{{{by}}}}} p{share}": f"histogram_quantile(0.{share}, {rates})" for share in (50, 99)}


def _rate_of_workers(metric: str) -> dict[str, str]:
    return _of_workers(f"sum by (instance) (rate({metric}{_WORKER}[$__rate_interval]))")


def _of_workers(expression: str) -> dict[str, str]:
    return {"{{instance}}": expression}


_ROWS = {
    "Throughput and lag": [
        Panel("Blocks in", _rate("continuum_blocks_total"), "ops"),
        Panel("Samples in", _rate("continuum_samples_total"), "ops"),
        Panel("Feature records out", _rate("continuum_features_total"), "ops"),
        Panel("Lag", _sum("continuum_lag"), about="Messages on the tier's partitions that are not processed yet."),
        Panel(
            "Blocks out of the ordinary",
            _rate("continuum_block_events_total", "event"),
            "ops",
            "Late, duplicate, after a gap, ...: each counted, none of them an error.",
        ),
        Panel("Dead letters", _rate("continuum_dead_letters_total", "reason"), "ops", "Input that was refused."),
    ],
    "Blocks from outside Kafka": [
        Panel("Taken and sent to a tier", _rate("continuum_ingest_blocks_total", "by"), "ops", "Over HTTP or MQTT."),
        Panel(
            "Refused",
            {"{{reason}}": f"sum by (reason) (rate(continuum_ingest_refused_total{_WORKER}[$__rate_interval]))"},
            "ops",
            "The sender was told, or a dead letter was made.",
        ),
    ],
    "Latency": [
        Panel("Computation on a partition's batch", _quantiles("continuum_batch_seconds"), "s"),
        Panel("Blocks held in a move between tiers", _quantiles("continuum_handoff_seconds"), "s"),
        Panel("Checkpoint, start to commit", _quantiles("continuum_checkpoint_seconds", "instance", _WORKER), "s"),
    ],
    "State": [
        Panel("Sensors in memory", _sum("continuum_sensors")),
        Panel("Sensors that left memory, idle", _rate("continuum_evicted_sensors_total"), "ops"),
        Panel("Sensors gone over to a changed pipeline", _rate("continuum_upgraded_sensors_total", "kind"), "ops"),
        Panel("Checkpoints", _rate_of_workers("continuum_checkpoints_total"), "ops"),
        Panel("Snapshots written", _rate_of_workers("continuum_snapshot_bytes_total"), "Bps"),
    ],
    "Handoffs and the Redis mirror": [
        Panel("Handoffs", _rate("continuum_handoffs_total", "kind"), "ops"),
        Panel("Sensors held", _sum("continuum_held_sensors"), about="Their blocks wait for another tier's state."),
        Panel(
            "Mirror up",
            {"{{tier}}": f"min by (tier) (continuum_mirror_up{_TIER})"},
            about="Whether Redis took the last write; 0 before the first.",
        ),
        Panel("Snapshots that the mirror lacks", _sum("continuum_mirror_pending")),
        Panel("Snapshots saved", _rate("continuum_mirror_saved_total"), "ops"),
        Panel(
            "Snapshots refused or written again",
            {
                "{{tier}} refused": f"sum by (tier) (rate(continuum_mirror_refused_total{_TIER}[$__rate_interval]))",
                "{{tier}} again": f"sum by (tier) (rate(continuum_mirror_resynced_total{_TIER}[$__rate_interval]))",
            },
            "ops",
        ),
    ],
    "Processes": [
        Panel("Memory", _of_workers(f"process_resident_memory_bytes{_WORKER}"), "bytes"),
        Panel("CPU", _of_workers(f"rate(process_cpu_seconds_total{_WORKER}[$__rate_interval])"), "percentunit"),
        Panel("Open files", _of_workers(f"process_open_fds{_WORKER}")),
    ],
}


def dashboard() -> dict[str, Any]:
    """Give the dashboard, as Grafana reads it from JSON."""
    return {
        "uid": "continuum",
        "title": "Continuum",
        "tags": ["continuum"],
        "schemaVersion": 39,
        "editable": False,
        "timezone": "browser",
        "refresh": "10s",
        "graphTooltip": 1,
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                _datasources(),
                _variable("tier", "continuum_blocks_total"),
                _variable("instance", "continuum_checkpoints_total"),
            ]
        },
        "annotations": {"list": []},
        "panels": _panels(),
    }


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    numbers = count(1)
    top = 0
    for title, row in _ROWS.items():
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        heading = {"type": "row", "title": title, "collapsed": False, "panels": []}
        panels.append({"id": next(numbers), "gridPos": place, **heading})
        top += 1
        for index, panel in enumerate(row):
            line, column = divmod(index, _COLUMNS // _WIDTH)
            place = {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": top + line * _HEIGHT}
            panels.append({"id": next(numbers), "gridPos": place, **_chart(panel)})
        top += ceil(len(row) * _WIDTH / _COLUMNS) * _HEIGHT
    return panels


def _chart(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _datasources() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(label: str, metric: str) -> dict[str, Any]:
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": _DATASOURCE,
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
