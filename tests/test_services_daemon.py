"""A daemon outlives its starter, is found again, is never mistaken for another process, and can be stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.services.daemon import Daemon
from app.services.ports import LOOPBACK, free_ports, is_free

SLEEP = ["sleep", "600"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    one.stop(5.0)


def test_it_runs_and_stops_once(daemon: Daemon) -> None:
    daemon.start(SLEEP, {})
    pid = daemon.pid()
    assert pid is not None
    while psutil.Process(pid).cmdline()[0] == "/bin/sh":  # which writes the id, then becomes the program
        assert daemon.pid() == pid
    assert psutil.Process(pid).cmdline() == SLEEP
    assert Daemon(daemon.folder).pid() == pid
    assert daemon.stop(5.0)
    assert daemon.pid() is None
    assert not daemon.stop(5.0)


def test_it_has_a_session_of_its_own(daemon: Daemon) -> None:
    daemon.start(SLEEP, {})
    assert os.getsid(daemon.pid() or 0) == daemon.pid()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_outlives_its_starter(daemon: Daemon, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from app.services.daemon import Daemon;"
        f"Daemon(Path(sys.argv[1])).start({SLEEP!r}, {{}}); print('started', flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(daemon.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"started\n"
    pid = daemon.pid()
    os.killpg(starter.pid, number)  # the whole group, as Ctrl-C does
    starter.wait()
    starter.stdout.close()
    assert pid is not None
    assert daemon.pid() == pid


def test_a_process_that_got_the_id_later_is_not_ours(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> None:
    bystander = subprocess.Popen(SLEEP, cwd=tmp_path_factory.mktemp("elsewhere"))
    try:
        (daemon.folder / "pid").write_text(f"{bystander.pid}\n")
        assert daemon.pid() is None
        assert not daemon.stop(5.0)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("content", ["", "no number\n", "999999999\n"])
def test_a_useless_pid_file_is_none(daemon: Daemon, content: str) -> None:
    (daemon.folder / "pid").write_text(content)
    assert daemon.pid() is None


def test_one_that_ends_while_its_starter_lives_is_not_running(daemon: Daemon) -> None:
    daemon.start(SLEEP, {})
    process = psutil.Process(daemon.pid())
    process.kill()
    process.wait(10)  # reaped: it does not stay behind as a zombie
    assert daemon.pid() is None


def test_one_that_ignores_the_request_is_killed_with_its_children(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "trap '' TERM; sleep 600 & echo child $!; while :; do sleep 0.1; done"], {})
    while "child" not in daemon.log_tail():
        assert daemon.pid() is not None
    child = psutil.Process(int(daemon.log_file.read_text().split()[1]))
    assert daemon.stop(0.2)
    assert daemon.pid() is None
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_what_it_printed_is_told_and_kept_one_run_longer(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "seq 100; echo $WORDS >&2; sleep 600"], {"WORDS": "to stderr"})
    while "to stderr" not in (tail := daemon.log_tail(lines=3)):
        assert daemon.pid() is not None
    assert tail.splitlines() == [f"the last lines of {daemon.log_file}:", "  99", "  100", "  to stderr"]
    daemon.stop(5.0)
    daemon.start(["true"], {})
    assert (daemon.folder / "log.old").read_text().endswith("to stderr\n")


def test_a_program_that_does_not_exist_is_told(daemon: Daemon) -> None:
    daemon.start(["no-such-program"], {})
    assert daemon.pid() is None
    assert "no-such-program" in daemon.log_tail()


@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0"])  # noqa: S104 - a server elsewhere may listen there
def test_a_port_is_free_when_nobody_listens(address: str) -> None:
    (port,) = free_ports(1)
    with socket.create_server((address, port)):
        assert not is_free(port)
    assert is_free(port)


def test_ports_left_lingering_by_connections_are_free() -> None:
    (port,) = free_ports(1)
    with (
        socket.create_server((LOOPBACK, port)) as server,
        socket.create_connection((LOOPBACK, port)),
    ):
        server.accept()[0].close()  # the side that closes first lingers
    assert is_free(port)


def test_drawn_ports_differ() -> None:
    assert len(set(free_ports(50))) == 50
