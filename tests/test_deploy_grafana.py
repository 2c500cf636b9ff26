"""Dashboards and alerts ask for what a real worker exports, in PromQL that parses."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import metrics
from app.deploy.export import DASHBOARD, Kind
from tests.exported import documents, exported
from tests.pages import visit
from tests.system import System

FILES = exported(Kind.GRAFANA)
PANELS = [panel for panel in json.loads(FILES[DASHBOARD])["panels"] if panel["type"] != "row"]
ALERTS = [rule for group in documents(FILES["prometheus/alerts.yml"])[0]["groups"] for rule in group["rules"]]

#: What Prometheus adds to what it scrapes, and its own metric of whether a target answered.
ADDED = {"instance", "job"}
OF_PROMETHEUS = {"up"}

#: Suffixes of a kind's samples.
SAMPLES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def selectors(expression: Any) -> list[Any]:
    """All selectors of an expression, however deep."""
    kind = type(expression).__name__
    if kind == "VectorSelector":
        return [expression]
    if kind == "MatrixSelector":
        return [expression.vector_selector]
    inner = [getattr(expression, name) for name in ("lhs", "rhs", "expr") if hasattr(expression, name)]
    return [found for one in [*inner, *getattr(expression, "args", [])] for found in selectors(one)]


def parsed(expression: str) -> Any:
    # Grafana fills these in before Prometheus sees them.
    return promql_parser.parse(expression.replace("$__rate_interval", "1m"))


EXPRESSIONS = [
    *(
        pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ),
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_labels_are_the_metric_s(expression: str) -> None:
    labels = {
        metric._name: set(metric._labelnames) for metric in vars(metrics).values() if hasattr(metric, "_labelnames")
    }
    found = selectors(parsed(expression))
    assert found
    grouped = (
        {label for group in re.findall(r"by \((.+?)\)", expression) for label in group.split(", ")} - {"le"} - ADDED
    )
    for selector in found:
        if not selector.name.startswith("continuum_"):
            assert not grouped
            continue
        own = labels[re.sub(r"_(total|bucket|count|sum)$", "", selector.name)]
        assert {matcher.name for matcher in selector.matchers.matchers} <= own | ADDED
        assert grouped <= own


async def test_a_worker_exports_every_metric_that_is_asked_for(system: System) -> None:
    worker = await system.worker()
    async with visit(worker, "/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    exports = {family.name + suffix for family in families for suffix in SAMPLES.get(family.type, [])}
    asked = {selector.name for one in EXPRESSIONS for selector in selectors(parsed(one.values[0]))}
    assert asked <= exports | OF_PROMETHEUS
    own = {
        name for name in exports if name.startswith("continuum_") and not name.endswith(("_count", "_sum", "_created"))
    }
    assert own <= asked, "what is measured is shown"


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(FILES[DASHBOARD])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", FILES[DASHBOARD])) - {"__rate_interval", "__all"}
    assert used == variables


def test_dashboards_lie_where_grafana_is_told() -> None:
    (provider,) = documents(FILES["grafana/provisioning/dashboards/continuum.yaml"])[0]["providers"]
    compose = exported(Kind.COMPOSE)
    (service,) = documents(compose["compose.yaml"])
    mounts = dict(volume.split(":")[:2] for volume in service["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert DASHBOARD in compose
    (source,) = documents(FILES["grafana/provisioning/datasources/prometheus.yaml"])[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_every_worker_is_scraped() -> None:
    compose = exported(Kind.COMPOSE)
    (scrape,) = documents(compose["prometheus/prometheus.yml"])[0]["scrape_configs"]
    names = scrape["dns_sd_configs"][0]["names"]
    assert names == [name for name in documents(compose["compose.yaml"])[0]["services"] if name.startswith("worker-")]
    headless = [one for one in documents(exported(Kind.K8S)["tiers.yaml"]) if one["kind"] == "Service"]
    assert [one["metadata"]["name"] for one in headless if one["spec"]["clusterIP"] == "None"] == names
    assert {rule["labels"]["severity"] for rule in ALERTS} == {"critical", "warning"}
    assert all({"summary", "description"} <= rule["annotations"].keys() for rule in ALERTS)
