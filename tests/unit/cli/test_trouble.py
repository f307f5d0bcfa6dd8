"""What a machine can refuse: a busy port, a full disk, a missing extra. One sentence, exit 2."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "STILLWATCH_HASH_KEY": "ab" * 32}


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stillwatch.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def _is_clear(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert 2 == done.returncode, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def _guard(folder: Path, port: int) -> Path:
    config = folder / "guard.toml"
    config.write_text(f'upstream = "http://127.0.0.1:9"\nstate = "state"\nport = {port}\n')
    return config


def test_busy_port(tmp_path: Path) -> None:
    """A gateway whose port is taken says which one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("guard", "serve", str(_guard(tmp_path, port)))
    _is_clear(done, f"port {port}")


def test_serve_until_told_to_end(tmp_path: Path) -> None:
    """`guard serve` says where it serves, is healthy, and ends in order."""
    command = [sys.executable, "-m", "stillwatch.cli.main", "guard", "serve"]
    gateway = subprocess.Popen(
        [*command, str(_guard(tmp_path, 0))], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert gateway.stderr is not None
    line = gateway.stderr.readline()
    assert "mode observe" in line
    url = line.split()[2].rstrip(",")
    with urllib.request.urlopen(f"{url}/healthz") as response:  # noqa: S310 - our own
        assert "observe" == json.load(response)["mode"]
    gateway.send_signal(signal.SIGTERM)
    assert 0 == gateway.wait(timeout=20)
    gateway.stderr.close()


@pytest.mark.parametrize("text", ["upstream = 3", "upstraem = 'http://x'", "no toml at all ["])
def test_bad_configuration(text: str, tmp_path: Path) -> None:
    """A broken configuration file names itself."""
    (tmp_path / "guard.toml").write_text(text)
    _is_clear(_run("guard", "serve", str(tmp_path / "guard.toml")), "guard.toml")


def test_missing_extra(tmp_path: Path) -> None:
    """Without torch the siege says what to install."""
    code = textwrap.dedent("""
        import sys
        class Gone:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"torch", "transformers", "tokenizers", "safetensors"}:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Gone())
        from stillwatch.cli.main import main
        if __name__ == "__main__":
            main()
    """)
    script = tmp_path / "without_torch.py"
    script.write_text(code)
    command = [sys.executable, str(script), "siege", "--tiny", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _is_clear(done, "pip install 'stillwatch[train]'")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_full_disk(small_disk: Path) -> None:
    """A full disk is named, and nothing half written stays."""
    done = _run("siege", "--tiny", "--out", str(small_disk / "run"))
    _is_clear(done, "is full")
    assert [] == list(small_disk.iterdir())


def test_detect_reads_its_own_kinds_of_log(tmp_path: Path) -> None:
    """`detect` takes a file of exchanges; a line that is none is named and left out."""
    log = tmp_path / "log.jsonl"
    rows = [
        {"exchange_id": f"r{n}", "account": f"a{n % 3}", "started_at": 1.7e9 + n,
         "messages": [{"role": "user", "content": f"how tall is tower {n}?"}]}
        for n in range(30)
    ]  # fmt: skip
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = _run("detect", str(log), "--out", str(tmp_path / "found"))
    assert 0 == done.returncode, done.stderr
    assert "30 exchanges of 3 accounts" in done.stdout
    assert [] == json.loads((tmp_path / "found/campaigns.json").read_bytes())["campaigns"]
    assert 4 == len((tmp_path / "found/accounts.csv").read_text().splitlines())
    log.write_text(log.read_text() + "not json\n")
    done = _run("detect", str(log), "--out", str(tmp_path / "again"))
    assert 0 == done.returncode
    assert "log.jsonl:31: " in done.stderr
    assert "1 records could not be read" in done.stderr
    assert "30 exchanges of 3 accounts" in done.stdout
    missing = _run("detect", str(tmp_path / "absent.jsonl"), "--out", str(tmp_path / "again"))
    _is_clear(missing, "absent.jsonl")
