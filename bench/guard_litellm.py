"""What the wall adds to LiteLLM's own CPU: as guardrail, as callback, and over its endpoint.

    python bench/guard_litellm.py --litellm PYTHON [--rounds 5]

PYTHON is of an environment with LiteLLM and Stillwatch (`make test-litellm` builds one). Each way
runs in a LiteLLM proxy of its own in front of the same mock model server; rounds are interleaved,
medians printed, CPU read from /proc of LiteLLM's process (its threads included, the learner not).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from guardbench.load import Kind, Target, closed
from guardbench.mock import MockConfig, run_mock
from guardbench.process import cpu_s, rss_mb
from stillwatch.siege.processes import ProcessGroup

_MASTER: Final = "sk-bench-0123456789abcdef0123456789abcdef"
_PLUGIN: Final = "stillwatch.guard.inside.litellm"
_SECRETS: Final = {"STILLWATCH_HASH_KEY": "68" * 32, "STILLWATCH_LITELLM_KEY": "guard-key"}
_ENDPOINT: Final = {
    "guardrail": "generic_guardrail_api", "mode": ["pre_call", "post_call"], "default_on": True,
    "api_key": "guard-key", "streaming_end_of_stream_only": True,
}  # fmt: skip
WAYS: Final = ("plain", "guardrail", "callback", "endpoint")
_KINDS: Final = {"whole": Kind(), "streamed": Kind(streamed=True)}
_N: Final = {"whole": 240, "streamed": 48}
_AT_ONCE: Final = 8
_HEALTH: Final = ("/health/liveliness", "/healthz")


@dataclass
class _Proxy:
    way: str
    port: int
    pid: int
    gateway: int | None
    used: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, name: str) -> None:
        """Ask some questions and note the CPU microseconds that each took."""
        pids = [self.pid, *([self.gateway] if self.gateway else [])]
        before = [cpu_s(pid) for pid in pids]
        sample = closed(Target(self.port, _MASTER), _KINDS[name], n=_N[name], at_once=_AT_ONCE)
        if sample.n_failed:
            message = f"{self.way}: {sample.n_failed} of {_N[name]} failed"
            raise SystemExit(message)
        after = [cpu_s(pid) for pid in pids]
        for where, was, now in zip(("", " (gateway)"), before, after, strict=False):
            each = (now - was) / _N[name] * 1e6
            self.used.setdefault(name + where, []).append(each)


def _guard_toml(folder: Path, name: str, *, port: int) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'state = "{name}-state"\nport = {port}\n[inside]\n[learner]\nevery_s = 0\n')
    return path


def _litellm_config(way: str, folder: Path, *, upstream: int, gateway: int) -> dict[str, Any]:
    model = {"model": "openai/m", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "x"}
    told: dict[str, Any] = {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "general_settings": {"master_key": _MASTER},
        "litellm_settings": {"telemetry": False},
    }
    params: Mapping[str, Any] | None = None
    if way == "callback":
        told["litellm_settings"]["callbacks"] = [f"{_PLUGIN}.callback"]
    elif way == "guardrail":
        toml = _guard_toml(folder, way, port=0)
        params = {"guardrail": f"{_PLUGIN}.StillwatchGuardrail", "mode": "pre_call",
                  "default_on": True, "guard_config": str(toml)}  # fmt: skip
    elif way == "endpoint":
        params = {**_ENDPOINT, "api_base": f"http://127.0.0.1:{gateway}"}
    if params is not None:
        told["guardrails"] = [{"guardrail_name": "wall", "litellm_params": params}]
    return told


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await(port: int, process: subprocess.Popen[bytes], *, path: str) -> None:
    url = f"http://127.0.0.1:{port}{path}"
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.3)
    message = f"{url} does not answer"
    raise SystemExit(message)


@contextmanager
def _running(words: list[str], folder: Path, *, port: int, name: str) -> Iterator[int]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("STILLWATCH_", "PYTHON"))}
    environ |= _SECRETS | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environ["STILLWATCH_GUARD_CONFIG"] = str(_guard_toml(folder, "callback", port=0))
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, env=environ, cwd=folder, start_new_session=True
        )
        try:
            _await(port, process, path=_HEALTH[name == "gateway"])
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _start(python: str, folder: Path, stack: ExitStack, *, way: str, upstream: int) -> _Proxy:
    gateway_port, gateway = _free_port(), None
    if way == "endpoint":
        toml = _guard_toml(folder, "gateway", port=gateway_port)
        words = [python, "-m", "stillwatch.cli.main", "guard", "serve", str(toml)]
        gateway = stack.enter_context(_running(words, folder, port=gateway_port, name="gateway"))
    config = folder / f"{way}.json"
    told = _litellm_config(way, folder, upstream=upstream, gateway=gateway_port)
    config.write_text(json.dumps(told))
    port = _free_port()
    words = [python, "-m", "litellm.proxy.proxy_cli", "--config", str(config)]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    pid = stack.enter_context(_running(words, folder, port=port, name=way))
    return _Proxy(way, port, pid, gateway)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--litellm", required=True, help="Python of LiteLLM's environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ProcessGroup() as processes, ExitStack() as stack:
        folder = Path(name)
        cpus = frozenset(os.sched_getaffinity(0))
        upstream = processes.start("mock", run_mock, MockConfig(cpus))
        proxies = [
            _start(given.litellm, folder, stack, way=way, upstream=upstream) for way in given.ways
        ]
        for proxy in proxies:  # what is done once is not counted
            proxy.measure("whole")
            proxy.measure("streamed")
            proxy.used.clear()
        for _ in range(given.rounds):
            for kind in _KINDS:
                for proxy in proxies:
                    proxy.measure(kind)
        _print(proxies)


def _print(proxies: list[_Proxy]) -> None:
    print(f"load average {os.getloadavg()[0]:.1f}; CPU us a question, median of rounds")
    base = {name: median(values) for name, values in proxies[0].used.items()}
    for proxy in proxies:
        for name, values in proxy.used.items():
            middle = median(values)
            added = f"{middle - base[name]:+8.0f}" if name in base else " " * 8
            spread = f"{min(values):.0f}-{max(values):.0f}"
            print(f"{proxy.way:10} {name:20} {middle:8.0f} {added}  ({spread})")
        print(f"{proxy.way:10} {'memory':20} {rss_mb(proxy.pid):8.0f} MiB")


if __name__ == "__main__":
    main()
