"""The gateway as a process: readiness, a tidy end, and no learner left behind."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from stillwatch.errors import ConfigError, EnvironmentUnfitError
from stillwatch.guard.config import GuardConfig, LearnerConfig
from stillwatch.guard.gateway import run_gateway
from stillwatch.record.journal import read_journal
from stillwatch.siege.processes import ProcessGroup

Make = Callable[..., GuardConfig]
QUESTION = b'{"model": "m", "messages": [{"role": "user", "content": "q"}]}'


async def _ask(port: int) -> int:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, data=QUESTION, headers={"x-api-key": "key-ann"}) as response,
    ):
        return response.status


async def _health(port: int) -> dict[str, object]:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{port}/healthz") as response,
    ):
        found: dict[str, object] = await response.json()
        return found


def _children(pid: int) -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


async def _gone(pids: list[int]) -> bool:
    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    for _ in range(500):
        if not any(map(alive, pids)):
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_end(make_config: Make, how: signal.Signals) -> None:
    """However the gateway ends, what it answered is recorded and its learner ends with it."""
    config = make_config(learner=LearnerConfig(every_s=0.0))
    with ProcessGroup() as processes:
        port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
        pid = processes.pids["gateway"]
        assert [200, 200] == [await _ask(port), await _ask(port)]
        assert "alive" == (await _health(port))["learner"]
        family = [pid, *_children(pid)]
        assert len(family) >= 2
        if how == signal.SIGKILL:
            await asyncio.sleep(0.2)  # the answers' records lag by one sync
        os.kill(pid, how)
        assert await _gone(family)
    assert 2 == len(list(read_journal(config.journal_path)))


def test_busy_port(make_config: Make) -> None:
    """A busy port is one clear sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentUnfitError, match=f"port {port} of 127.0.0.1 is busy"):
            run_gateway(make_config(port=port))


def test_no_key_table(make_config: Make, tmp_path: Path) -> None:
    """A missing key table is said before anything is served."""
    with pytest.raises(ConfigError, match="key table cannot be read"):
        run_gateway(make_config(keys=tmp_path / "absent.jsonl"))


async def test_one_gateway_a_folder(make_config: Make) -> None:
    """A second gateway on the same record is refused."""
    config = make_config()
    with ProcessGroup() as processes:
        await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
        with pytest.raises(EnvironmentUnfitError, match="one writer"):
            await asyncio.to_thread(processes.start, "second", run_gateway, config)
