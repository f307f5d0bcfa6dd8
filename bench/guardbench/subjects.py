"""Who is measured: the gateway with everything on, LiteLLM's proxy, and nobody in between."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardbench.load import Target
from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege.processes import OnReady, ProcessGroup

#: The version that is measured: later than the two that were published with a back door.
LITELLM = "litellm[proxy]==1.106.2"
ADMIN_TOKEN = "bench-admin-token-of-the-guard"  # noqa: S105 - lives on loopback for a minute
_SECRETS = Secrets(hash_key=b"bench-key-of-the-guard", admin_token=ADMIN_TOKEN)
_KEY = "key-7"
_MASTER_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
_START_S = 120.0


@dataclass(frozen=True)
class Subject:
    """One of those measured.

    Attributes:
        name: in the table.
        target: how to ask it.
        pid: of its process; None for nobody in between.
    """

    name: str
    target: Target
    pid: int | None


@dataclass(frozen=True)
class GatewayPlan:
    """How a gateway is started.

    Attributes:
        upstream: the mock's port.
        folder: for its state and keys; made.
        cpus: cores that it may use.
        n_accounts: with a key of their own (count).
    """

    upstream: int
    folder: Path
    cpus: frozenset[int]
    n_accounts: int = 100_000

    def config(self) -> GuardConfig:
        """Write keys and configuration.

        Returns:
            The configuration: everything on, observe mode, learning when asked.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = self.folder / "keys.jsonl"
        issued = (Issued(f"account-{n}", f"key-{n}") for n in range(self.n_accounts))
        write_key_table(keys, issued, KeyedHash(_SECRETS.hash_key))
        return GuardConfig(
            upstream=f"http://127.0.0.1:{self.upstream}",
            state=self.folder / "state",
            secrets=_SECRETS,
            port=0,
            keys=keys,
            learner=LearnerConfig(every_s=0),
        )


def start_gateway(processes: ProcessGroup, plan: GatewayPlan, *, name: str = "ours") -> Subject:
    """Start a gateway.

    Args:
        processes: that it belongs to.
        plan: how.
        name: in the table.

    Returns:
        It, serving.
    """
    port = processes.start(name, _run_gateway, (plan.config(), plan.cpus))
    return Subject(name, Target(port, _KEY), processes.pids[name])


def _run_gateway(given: tuple[GuardConfig, frozenset[int]], on_ready: OnReady) -> None:
    config, cpus = given
    os.sched_setaffinity(0, cpus)
    run_gateway(config, on_ready)


@contextlib.contextmanager
def litellm(
    python: Path, folder: Path, *, upstream: int, cpus: frozenset[int]
) -> Iterator[Subject]:
    """Run LiteLLM's proxy: one worker, no database, no logging, no callbacks.

    Args:
        python: of the environment that it is installed in.
        folder: for its configuration and what it says.
        upstream: the mock's port.
        cpus: cores that it may use.

    Yields:
        It, serving.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: m\n    litellm_params:\n      model: openai/m\n"
        f"      api_base: http://127.0.0.1:{upstream}/v1\n      api_key: none\n"
        f"general_settings:\n  master_key: {_MASTER_KEY}\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    port = _free_port()
    words = [python.parent / "litellm", "--config", config, "--port", str(port)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("STILLWATCH_", "PYTHON"))}
    environ |= {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in (*words, "--host", "127.0.0.1", "--num_workers", "1")],
            stdout=log, stderr=log, env=environ, cwd=folder, start_new_session=True,
        )  # fmt: skip
        os.sched_setaffinity(process.pid, cpus)
        try:
            _await_health(port, process)
            yield Subject("LiteLLM", Target(port, _MASTER_KEY), process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def make_environment(folder: Path) -> Path:
    """Install LiteLLM's proxy into an environment of its own, unless it is there.

    Args:
        folder: of the environment.

    Returns:
        Its interpreter.
    """
    python = folder / "bin" / "python"
    if not (folder / "bin" / "litellm").exists():
        subprocess.run(["python3", "-m", "venv", str(folder)], check=True)  # noqa: S607
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", LITELLM], check=True)
    return python


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await_health(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    url = f"http://127.0.0.1:{port}/health/liveliness"
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=2),
        ):
            return
        time.sleep(0.5)
    message = "LiteLLM did not come up; see litellm.log"
    raise SystemExit(message)
