"""The local Runtime API and its environments, with Amazon's own runtime in real processes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from app.serverless.environment import Environments, FunctionConfig, Invocation
from app.serverless.runtime_api import FUNCTION_ARN, MAX_PAYLOAD, InvocationError, RuntimeApi
from app.settings import load_settings


def function(folder: Path, **options: Any) -> FunctionConfig:
    settings = load_settings(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1", app_id="clinic")
    return FunctionConfig(settings, folder / "log", **{"handler": "tests.handlers.act", **options})


def answer(invocation: Invocation) -> Any:
    assert invocation.error is None
    assert invocation.response is not None
    return msgspec.json.decode(invocation.response)


async def ask(environments: Environments, **event: Any) -> Invocation:
    return await environments.invoke(msgspec.json.encode(event))


async def test_a_handler_is_run_as_lambda_runs_it(tmp_path: Path) -> None:
    async with Environments(function(tmp_path, timeout=20), 1) as environments:
        first = await ask(environments, number=1)
        told = answer(first)
        assert told["event"] == {"number": 1}
        assert told["request"] == first.request_id
        assert told["arn"] == FUNCTION_ARN
        assert 10_000 < told["remaining"] <= 20_000
        assert told["environment"]["AWS_LAMBDA_FUNCTION_NAME"] == "continuum"
        assert told["environment"]["CONTINUUM_APP_ID"] == "clinic"
        assert first.init_seconds is not None
        assert first.memory is not None
        assert first.memory > 1 << 20
        second = await ask(environments, number=2)
        assert answer(second)["pid"] == told["pid"], "a warm environment is used again"
        assert second.init_seconds is None
        assert second.request_id != first.request_id


async def test_an_error_of_the_handler_s_leaves_its_environment_warm(tmp_path: Path) -> None:
    async with Environments(function(tmp_path), 1) as environments:
        pid = answer(await ask(environments))["pid"]
        failed = await ask(environments, **{"raise": "Redis does not answer"})
        assert failed.response is None
        assert failed.error is not None
        assert (failed.error.error_type, failed.error.error_message) == ("ValueError", "Redis does not answer")
        assert any("handlers.py" in line for line in failed.error.stack_trace)
        assert "Redis does not answer" in (tmp_path / "log").read_text()
        assert answer(await ask(environments))["pid"] == pid


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"sleep": 60}, "Sandbox.Timedout", "Task timed out after 0.50 seconds"),
        ({"kill": True}, "Runtime.ExitError", "Runtime exited with error: signal: SIGKILL"),
        ({"exit": 3}, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
    ],
)
async def test_what_ends_an_environment(tmp_path: Path, event: dict[str, Any], kind: str, message: str) -> None:
    async with Environments(function(tmp_path, timeout=0.5), 1) as environments:
        pid = answer(await ask(environments))["pid"]
        failed = await ask(environments, **event)
        assert failed.error is not None
        assert failed.error.error_type == kind
        assert failed.error.error_message == f"RequestId: {failed.request_id} Error: {message}"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        again = await ask(environments)
        assert answer(again)["pid"] != pid
        assert again.init_seconds is not None, "the next one starts cold"


async def test_an_environment_that_died_while_idle_is_not_used(tmp_path: Path) -> None:
    async with Environments(function(tmp_path), 1) as environments:
        pid = answer(await ask(environments))["pid"]
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.2)
        assert answer(await ask(environments))["pid"] != pid


async def test_as_many_environments_as_concurrent_events(tmp_path: Path) -> None:
    async with Environments(function(tmp_path), 2) as environments:
        events = [ask(environments, sleep=0.3), *(ask(environments, number=number) for number in range(5))]
        pids = [answer(invocation)["pid"] for invocation in await asyncio.gather(*events)]
    assert len(set(pids)) == 2
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_cancelled_invocation_leaves_no_process(tmp_path: Path) -> None:
    async with Environments(function(tmp_path), 1) as environments:
        pid = answer(await ask(environments))["pid"]
        invocation = asyncio.create_task(ask(environments, sleep=60))
        await asyncio.sleep(0.2)
        invocation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await invocation
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert answer(await ask(environments))["pid"] != pid


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("tests.broken_handler.act", "RuntimeError", "no such state"),
        ("tests.handlers.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'tests.handlers'"),
    ],
)
async def test_a_handler_that_cannot_be_loaded(tmp_path: Path, handler: str, kind: str, message: str) -> None:
    async with Environments(function(tmp_path, handler=handler), 1) as environments:
        failed = await ask(environments)
        assert failed.error is not None
        assert (failed.error.error_type, failed.error.error_message) == (kind, message)


async def test_a_container_s_log_is_its_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Or nobody would see there why events fail."""
    config = dataclasses.replace(function(tmp_path, handler="tests.handlers.act"), log=None)
    async with Environments(config, 1) as environments:
        assert (await ask(environments, **{"raise": "disk full"})).error is not None
    assert "disk full" in capfd.readouterr().err


async def test_a_response_that_is_too_large(tmp_path: Path) -> None:
    async with Environments(function(tmp_path), 1) as environments:
        failed = await ask(environments, bytes=MAX_PAYLOAD)
        assert failed.error is not None
        assert failed.error.error_type == "Function.ResponseSizeTooLarge"


@pytest.fixture
async def api() -> AsyncIterator[tuple[RuntimeApi, aiohttp.ClientSession]]:
    server = RuntimeApi()
    await server.start()
    async with aiohttp.ClientSession(f"http://{server.address}/2018-06-01/runtime/") as session:
        yield server, session
    await server.stop()


async def test_the_protocol(api: tuple[RuntimeApi, aiohttp.ClientSession]) -> None:
    server, session = api
    request_id, result = server.give(b'{"a": 1}', 3.0)
    async with session.get("invocation/next") as response:
        assert response.status == 200
        assert await response.json() == {"a": 1}
        headers = response.headers
    assert headers["Lambda-Runtime-Aws-Request-Id"] == request_id
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == FUNCTION_ARN
    assert headers["Lambda-Runtime-Deadline-Ms"].isdecimal()
    assert headers["Lambda-Runtime-Trace-Id"].startswith("Root=1-")
    async with session.post("invocation/another/response", data=b"1") as response:
        assert (response.status, (await response.json())["errorType"]) == (400, "InvalidRequestID")
    assert not result.done()
    async with session.post(f"invocation/{request_id}/response", data=b"[2]") as response:
        assert response.status == 202
    assert await result == (b"[2]", None)
    async with session.post(f"invocation/{request_id}/response", data=b"[3]") as response:
        assert response.status == 400, "it has been answered"


async def test_a_report_that_names_its_type_in_the_header_only(
    api: tuple[RuntimeApi, aiohttp.ClientSession],
) -> None:
    server, session = api
    request_id, result = server.give(b"{}", 3.0)
    await (await session.get("invocation/next")).read()
    report = {"errorMessage": "no"}
    headers = {"Lambda-Runtime-Function-Error-Type": "Function.Bad"}
    async with session.post(f"invocation/{request_id}/error", json=report, headers=headers) as response:
        assert response.status == 202
    assert (await result).error == InvocationError("no", "Function.Bad")
