"""Kafka's jars are exactly the locked ones, whatever the cache and the repository hold."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from jgo.maven import MavenContext
from tenacity import wait_none

from app.services import ServiceError, jars, lock
from app.services.jars import Jar, fetch, read_lock

CONTENTS = {name: f"the bytes of {name}".encode() * 1000 for name in ("alpha", "beta", "gamma")}
JARS = [Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items()]


@pytest.fixture(autouse=True)
def _no_pause_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars._download.retry, "wait", wait_none())  # type: ignore[attr-defined]


class _Repository(http.server.ThreadingHTTPServer):
    def __init__(self, root: Path) -> None:
        self.requests: list[str] = []
        self.root = root
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(root)))

    def path(self, name: str) -> Path:
        return self.root / f"org/example/{name}/1.0/{name}-1.0.jar"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: _Repository

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[_Repository]:
    server = _Repository(tmp_path / "repository")
    for name, content in CONTENTS.items():
        server.path(name).parent.mkdir(parents=True)
        server.path(name).write_bytes(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def context(tmp_path: Path, repository: _Repository) -> MavenContext:
    address = f"http://127.0.0.1:{repository.server_address[1]}"
    return MavenContext(repo_cache=tmp_path / "cache", remote_repos={"test": address})


def _silent(_: str) -> None:
    pass


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_the_cache_lacks_is_fetched_once(context: MavenContext, repository: _Repository) -> None:
    paths = fetch(JARS, context, _silent)
    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())
    assert _files(context.repo_cache) == ["alpha-1.0.jar", "beta-1.0.jar", "gamma-1.0.jar"]
    repository.requests.clear()
    assert fetch(JARS, context, _silent) == paths
    assert repository.requests == []


def test_a_damaged_jar_in_the_cache_is_named_and_replaced(context: MavenContext, repository: _Repository) -> None:
    damaged = fetch(JARS, context, _silent)[1]
    damaged.write_bytes(CONTENTS["beta"][:-1])
    repository.requests.clear()
    told: list[str] = []
    fetch(JARS, context, told.append)
    assert damaged.read_bytes() == CONTENTS["beta"]
    assert any(str(damaged) in line and "SHA-256" in line for line in told)
    assert not any("alpha" in path or "gamma" in path for path in repository.requests)


def test_a_download_that_is_not_what_was_locked_is_refused(context: MavenContext, repository: _Repository) -> None:
    repository.path("gamma").write_bytes(b"something else")
    with pytest.raises(ServiceError, match=r"org\.example:gamma:1\.0 has SHA-256") as caught:
        fetch(JARS, context, _silent)
    assert JARS[2].sha256 in str(caught.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert "gamma-1.0.jar" not in _files(context.repo_cache)


def test_a_jar_that_no_repository_has_is_named(context: MavenContext, repository: _Repository) -> None:
    repository.path("beta").unlink()
    with pytest.raises(ServiceError, match="beta"):
        fetch(JARS, context, _silent)


def test_a_connection_that_breaks_is_tried_again(
    context: MavenContext, repository: _Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: set[str] = set()

    def cut_short_once(handler: _Handler, source: object, target: object) -> None:
        if handler.path.endswith(".jar") and handler.path not in cut:
            cut.add(handler.path)
            handler.wfile.write(b"the first")
            handler.close_connection = True
            return
        http.server.SimpleHTTPRequestHandler.copyfile(handler, source, target)

    monkeypatch.setattr(_Handler, "copyfile", cut_short_once)
    paths = fetch(JARS, context, _silent)
    assert len(cut) == len(JARS)
    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())


def test_without_a_network_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path / "empty"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServiceError, match="check the network, a proxy") as caught:
        fetch(read_lock(jars.LOCK_FILE.read_text()), jars.maven(), _silent)
    assert "CONTINUUM_KAFKA_BOOTSTRAP" in str(caught.value)
    assert _files(tmp_path / "empty") == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, repository: _Repository) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"cannot fetch .* into .*file/cache"):
        fetch(JARS, MavenContext(repo_cache=tmp_path / "file" / "cache", remote_repos={}), _silent)


def test_without_jgo_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(ServiceError, match=r"jgo is not installed.*pip install"):
        jars.maven()


def test_the_lock_is_whole() -> None:
    locked = read_lock(jars.LOCK_FILE.read_text())
    assert {lock.KAFKA, lock.BINDING} <= {str(jar) for jar in locked}
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)
    kafka_versions = {jar.version for jar in locked if jar.group == "org.apache.kafka"}
    assert kafka_versions == {lock.KAFKA.rpartition(":")[2]}
