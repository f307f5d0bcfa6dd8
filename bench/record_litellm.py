"""LiteLLM lines into a store, beside plain JSON readers: python bench/record_litellm.py [LINES].

Generates LINES (a million by default) logging payloads of about 1.5 KB in LiteLLM's shape: 20,000
accounts, two addresses each. Every reader then runs in a process of its own. Polars and pyarrow
only decode, in a stream on one thread; ours decodes, maps, hashes, tells repeats apart and
writes Parquet, once in one process and once in two, at a quarter of the lines and at all of them.
Polars comes with `pip install polars`; without it its row is left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stillwatch.logs.convert import convert_logs
from stillwatch.logs.reader import ReadOptions
from stillwatch.logs.reading import ReadRequest
from stillwatch.record.privacy import KeyedHash

_MODELS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "mistral-large-latest")
_AGENTS = ("OpenAI/Python 1.99.2", "AsyncOpenAI/JS 4.71.0", "python-httpx/0.28.1", "curl/8.5.0")
_TEXT = (
    "please explain how the harbour pump keeps its pressure when both valves close at night and "
    "which reading on the old gauge would show a slow leak before the tank runs dry again today "
    "answer in short plain sentences and give the number that I should write into the log book"
)
_WORDS = _TEXT.split()
_ACCOUNTS = 20_000


def generate(path: Path, n_lines: int, *, seed: int = 0) -> None:
    """Write payloads in LiteLLM's shape.

    Args:
        path: the file to write.
        n_lines: how many (count).
        seed: of everything drawn.
    """
    rng = np.random.default_rng(seed)
    encode = msgspec.json.Encoder().encode
    with path.open("wb", buffering=1 << 20) as file:
        for start in range(0, n_lines, 10_000):
            size = min(10_000, n_lines - start)
            draws = rng.integers(0, 2**31, size=(size, 48))
            for offset in range(size):
                file.write(encode(_payload(start + offset, draws[offset].tolist())) + b"\n")


def _payload(n: int, draw: list[int]) -> dict[str, Any]:
    account = draw[0] % _ACCOUNTS
    model = _MODELS[draw[1] % len(_MODELS)]
    begun = 1_760_000_000 + n * 0.25
    words = [_WORDS[d % len(_WORDS)] for d in draw[4:46]]
    streamed = draw[2] % 3 == 0
    asked, told = 40 + draw[46] % 200, 20 + draw[47] % 120
    address = f"198.{account >> 8 & 127}.{account & 255}.{1 + draw[3] % 2}"
    return {
        "id": f"chatcmpl-{n:032x}",
        "trace_id": f"5f0c1d2e-{n:012x}",
        "session_id": f"session-{account}-{n % 7}",
        "call_type": "acompletion",
        "stream": streamed,
        "response_cost": told * 6e-07,
        "status": "success",
        "custom_llm_provider": "openai",
        "total_tokens": asked + told,
        "prompt_tokens": asked,
        "completion_tokens": told,
        "startTime": begun,
        "endTime": begun + 1.5,
        "completionStartTime": begun + 0.5,
        "response_time": 1.5,
        "model_map_information": {"model_map_key": model, "model_map_value": None},
        "model": model,
        "model_group": model,
        "api_base": "https://api.openai.com",
        "metadata": _metadata(account, address, asked + told),
        "cache_hit": False,
        "request_tags": [],
        "end_user": "",
        "requester_ip_address": address,
        "messages": [
            {"role": "system", "content": "You are the assistant of a harbour office."},
            {"role": "user", "content": " ".join(words[:28])},
        ],
        "response": _response(n, model, " ".join(words[28:])),
        "model_parameters": {
            "temperature": (draw[1] % 8) / 8,
            "max_tokens": 512,
            "stream": streamed,
        },
        "hidden_params": {"model_id": "e1f5ad0c"},
    }


def _metadata(account: int, address: str, n_tokens: int) -> dict[str, Any]:
    return {
        "user_api_key_hash": f"{account:064x}",
        "user_api_key_team_id": f"team-{account % 300}",
        "user_api_key_org_id": None,
        "user_api_key_user_id": f"user-{account:05d}",
        "requester_ip_address": address,
        "user_agent": _AGENTS[account % len(_AGENTS)],
        "usage_object": {"total_tokens": n_tokens},
    }


def _response(n: int, model: str, text: str) -> dict[str, Any]:
    message = {"content": text, "role": "assistant"}
    return {
        "id": f"chatcmpl-{n:032x}",
        "created": 1_760_000_000 + n // 4,
        "model": model,
        "object": "chat.completion",
        "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
    }


class Measured(NamedTuple):
    """One reader's run.

    Attributes:
        lines: lines that it read (count).
        wall_s: seconds.
        cpu_s: seconds of all its processes together.
        rss_mib: largest resident size; of several processes the sum of each one's largest.
    """

    lines: int
    wall_s: float
    cpu_s: float
    rss_mib: float


def _read(reader: str, path: Path, out: Path) -> int:
    if reader.startswith("stillwatch"):
        request = ReadRequest(
            (str(path),),
            ReadOptions(KeyedHash(bytes(32))),
            format="litellm",
            processes=int(reader[-1]),
        )
        return convert_logs(request, out).counts.exchanges
    if reader == "pyarrow":
        import pyarrow.json as arrow_json

        options = arrow_json.ReadOptions(use_threads=False, block_size=8 << 20)
        with arrow_json.open_json(path, read_options=options) as batches:
            return sum(batch.num_rows for batch in batches)
    import polars

    batches = polars.scan_ndjson(path).collect_batches(chunk_size=50_000)
    return sum(batch.height for batch in batches)


def _measure_here(reader: str, path: Path, out: Path) -> None:
    begun = time.perf_counter()
    lines = _read(reader, path, out)
    wall = time.perf_counter() - begun
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    n_children = int(reader[-1]) if reader.startswith("stillwatch") and reader[-1] != "1" else 0
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    rss = (own.ru_maxrss + n_children * children.ru_maxrss) / 1024
    print(json.dumps((lines, wall, cpu, rss)))


def _measure(reader: str, path: Path, folder: Path) -> Measured:
    out = folder / f"{reader}-{path.stem}"
    command = [sys.executable, __file__, "--measure", reader, str(path), str(out)]
    one_thread = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, capture_output=True, env=one_thread)
    return Measured(*json.loads(found.stdout))


def _compare(folder: Path, n_lines: int) -> None:
    quarter, whole = folder / "quarter.jsonl", folder / "whole.jsonl"
    generate(quarter, n_lines // 4)
    generate(whole, n_lines)
    size = whole.stat().st_size
    print(f"{n_lines:,} lines of {size / n_lines:,.0f} bytes, {size / 2**30:.2f} GiB\n")
    print(f"{'reader':<16}{'lines':>10}{'wall s':>8}{'CPU s':>8}{'lines/s':>10}{'/CPU s':>10}"
          f"{'RSS MiB':>9}")  # fmt: skip
    plain = ["pyarrow"] + ["polars"] * (importlib.util.find_spec("polars") is not None)
    rates: dict[str, float] = {}
    for reader, path in (
        *((name, whole) for name in plain),
        *((f"stillwatch-{n}", path) for n in (1, 2) for path in (quarter, whole)),
    ):
        found = _measure(reader, path, folder)
        assert found.lines == (n_lines if path == whole else n_lines // 4), found
        rates[reader] = found.lines / found.cpu_s
        print(f"{reader:<16}{found.lines:>10,}{found.wall_s:>8.1f}{found.cpu_s:>8.1f}"
              f"{found.lines / found.wall_s:>10,.0f}{rates[reader]:>10,.0f}"
              f"{found.rss_mib:>9,.0f}")  # fmt: skip
    for name in plain:
        ratio = rates["stillwatch-1"] / rates[name]
        print(f"\nper CPU second, ours is {ratio:.2f} of {name}", end="")
    print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure_here(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        with tempfile.TemporaryDirectory() as name:
            _compare(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
