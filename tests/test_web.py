"""A worker's pages: figures and metrics that follow the input, probes that tell the truth, a page that is safe."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urljoin

import numpy as np
import pytest

from app.errors import ContinuumError
from app.topics import features_topic
from app.web.address import bind
from app.wire.blocks import encode_json
from app.worker_process import WorkerProcess
from tests.pages import metrics_of, until, visit
from tests.system import System, noise

SENSORS, BLOCKS, LENGTH, BAD = 4, 6, 256, 3
MISSING = 100
"""Samples before the last block of the first sensor."""


def messages() -> list[tuple[bytes, bytes]]:
    """Blocks of some sensors; before one a gap, one of them twice; and a few messages that no worker may take."""
    sent = []
    for number in range(SENSORS):
        sensor_id = f"s{number}"
        signal_of = noise(BLOCKS * LENGTH, seed=number)
        for block in range(BLOCKS):
            start = block * LENGTH
            seq = start + (MISSING if (number, block) == (0, BLOCKS - 1) else 0)
            samples = signal_of[start : start + LENGTH]
            sent.append((sensor_id.encode(), encode_json(sensor_id, samples, 1_700_000_000_000 + seq * 4, seq=seq)))
    sent.append(sent[-1])
    sent += [(b"bad", b"{"), (b"bad", b"nonsense")]
    sent.append((b"bad", encode_json("bad", np.empty(0), 1_700_000_000_000)))
    return sent


async def test_figures_and_metrics_follow_the_input(system: System) -> None:
    worker = await system.worker()
    tier = (await worker.status()).tiers["rt"]
    assert (tier.blocks, tier.samples, tier.features, tier.sensors, tier.dead_letters) == (0, 0, 0, 0, {})
    assert (tier.checkpoint_age, tier.mirror.up) == (None, None)
    assert tier.partitions == list(range(50))
    metrics = await metrics_of(worker)
    assert not any(value for name, value in metrics.items() if name.startswith("continuum_") and "created" not in name)

    await system.send(messages())
    blocks, features = SENSORS * BLOCKS + 1, SENSORS * BLOCKS
    records = await system.read(features_topic(system.settings, "ecg"), until=features)

    async def settled() -> bool:
        tier, saved = (await worker.status()).tiers["rt"], (await metrics_of(worker))["continuum_mirror_saved_total rt"]
        return tier.blocks == blocks and sum(tier.dead_letters.values()) == BAD and saved >= SENSORS

    await until(settled, "all messages counted and all sensors in the mirror")
    status = await worker.status()
    tier = status.tiers["rt"]
    assert (tier.samples, tier.features, tier.sensors) == (blocks * LENGTH, features, SENSORS)
    assert (tier.late, tier.gaps, tier.replayed, tier.lag) == (1, 1, 0, 0)
    assert tier.dead_letters == {"malformed": 2, "empty-samples": 1}
    assert tier.checkpoint_age is not None
    assert 0 <= tier.checkpoint_age < status.now - status.started
    assert (tier.mirror.up, tier.mirror.pending) == (True, 0)
    assert status.ready
    assert not status.rebalancing
    on_topic = Counter(record.value for record in records)
    latest = Counter(bytes(record) for record in status.latest)
    assert latest.total() == 20
    assert latest <= on_topic

    metrics = await metrics_of(worker)
    assert metrics["continuum_blocks_total rt"] == blocks
    assert metrics["continuum_samples_total rt"] == blocks * LENGTH
    assert metrics["continuum_features_total rt"] == features
    assert metrics["continuum_block_events_total duplicate rt"] == 1
    assert metrics["continuum_block_events_total gap_reset rt"] == 1
    assert metrics["continuum_block_events_total replayed rt"] == 0
    assert metrics["continuum_dead_letters_total malformed rt"] == 2
    assert metrics["continuum_dead_letters_total empty-samples rt"] == 1
    assert metrics["continuum_sensors rt"] == SENSORS
    assert metrics["continuum_batch_seconds_count rt"] > 0
    assert metrics["continuum_checkpoints_total"] == metrics["continuum_checkpoint_seconds_count"] > 0
    assert metrics["continuum_snapshot_bytes_total"] > 0
    assert metrics["continuum_mirror_up rt"] == 1
    assert metrics["continuum_mirror_pending rt"] == 0
    assert metrics["continuum_mirror_refused_total rt"] == 0


async def answer(worker: WorkerProcess, path: str) -> tuple[int, object]:
    async with visit(worker, path) as response:
        return response.status, await response.json()


async def test_alive_is_not_ready(system: System) -> None:
    """A worker that waits for its group to settle lives, and must get no traffic."""
    first = await system.worker()
    assert await answer(first, "/healthz") == (200, {"status": "alive"})
    assert await answer(first, "/readyz") == (200, {"ready": True})
    first.signal(signal.SIGSTOP)  # so the group waits for it
    second = WorkerProcess(system.settings, system.settings.datadir / "second.log")
    system.workers.append(second)
    getting_ready = asyncio.create_task(second.ready())

    async def lives() -> bool:
        return second.url is not None and await answer(second, "/healthz") == (200, {"status": "alive"})

    await until(lives, "the second worker serves its pages")
    assert await answer(second, "/readyz") == (503, {"ready": False})
    status = await second.status()
    assert not status.ready
    assert status.tiers["rt"].partitions == []
    first.signal(signal.SIGCONT)
    await getting_ready
    assert await answer(second, "/readyz") == (200, {"ready": True})


class Page(HTMLParser):
    """What a page refers to, and what it holds that a strict policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.ids: set[str] = set()
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name == "src" or (name == "href" and tag == "link"):
                self.loads.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag == "style":
            self.inline.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script" and data.strip():
            self.inline.append("script")


async def test_the_page_is_whole_and_safe(system: System) -> None:
    worker = await system.worker()
    async with visit(worker, "/") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        page = Page(await response.text())
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.inline == []

    waiting, seen = [path for path in page.loads if not path.startswith("data:")], set()
    assert waiting
    scripts = ""
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        async with visit(worker, f"/{path}") as response:
            assert response.status == 200, path
            kind = "text/css" if path.endswith(".css") else ("text/javascript", "application/javascript")
            assert response.content_type in kind, "nosniff makes browsers refuse any other"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            text = await response.text()
        if path.endswith(".js"):
            scripts += text
            waiting += [urljoin(path, name) for name in re.findall(r'from "(.+?)"', text)]
    # A sensor's id is whatever somebody sends: it must never be parsed as markup or code.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|eval\(|Function\(", scripts)
    assert set(re.findall(r'element\("(.+?)"\)', scripts)) <= page.ids
    for path in page.links:
        async with visit(worker, f"/{path}") as response:
            assert response.status == 200, path
    for path in ["/assets/%2e%2e/server.py", "/assets/../server.py", "/assets/", "/nonesuch"]:
        async with visit(worker, path) as response:
            assert response.status in {403, 404}, path
            assert response.headers["Content-Security-Policy"] == policy


async def test_the_worker_prints_the_address_of_its_pages(system: System) -> None:
    worker = await system.worker()
    assert await worker.stop() == 0
    log = worker.log.read_text()
    assert f"web pages at {worker.url}/ \n" in log
    assert re.search(rf"\| web +\| {worker.url} +\|", log), "Faust's banner"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_ours_is_refused_at_the_first_port(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create, tried = socket.create_server, []

    def watched(address: tuple[str, int], **options: bool) -> socket.socket:
        tried.append(address)
        return create(address, **options)

    monkeypatch.setattr(socket, "create_server", watched)
    with pytest.raises(ContinuumError, match=rf"cannot listen on {host}:6066.*CONTINUUM_WEB_HOST"):
        bind(host, None)
    assert tried == [(host, 6066)]


def test_the_first_free_port_is_taken() -> None:
    with bind("127.0.0.1", None) as first, bind("127.0.0.1", None) as second:
        assert 6066 <= first.getsockname()[1] < second.getsockname()[1]
