"""`stillwatch logs`."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stillwatch.cli.logs import command
from stillwatch.errors import InvalidInputError
from stillwatch.logs.readers.registry import FORMATS
from stillwatch.record.store import read_store

LINES = [
    json.dumps({
        "exchange_id": f"x{n}", "account": f"u{n % 4}", "started_at": 1.76e9 + 40_000 * n,
        "messages": [{"role": "user", "content": f"question {n}"}], "output_tokens": 2,
    })
    for n in range(8)
]  # fmt: skip


def _run(*words: object, text: bytes | None = None) -> Result:
    return CliRunner().invoke(command, [str(w) for w in words], input=text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A packed log with one bad line."""
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join([*LINES[:4], '{"bad":', *LINES[4:]]).encode()))
    return path


def test_convert_to_a_store(log: Path, tmp_path: Path) -> None:
    """A log becomes a store by day, with its quarantine and its result beside it."""
    out = tmp_path / "store"
    result = _run("convert", log, "--out", out, "--hash-key", tmp_path / "hash.key")
    assert 0 == result.exit_code, result.output
    assert [f"x{n}" for n in range(8)] == [e.exchange_id for e in read_store(out)]
    assert 4 == len(list(out.glob("day=*/*.parquet")))
    (fault,) = map(json.loads, (out / "quarantine.jsonl").read_text().splitlines())
    assert (str(log), 5) == (fault["file"], fault["line"])
    assert 1 == json.loads((out / "convert.json").read_text())["counts"]["quarantined"]
    assert "because it has exchange_id, account and started_at" in result.output
    assert "9 records read, 1 put aside" in result.output


def test_converting_again_replaces(log: Path, tmp_path: Path) -> None:
    """The same log converted again, grown meanwhile, does not double what it gave before."""
    out = tmp_path / "store"
    assert 0 == _run("convert", log, "--out", out).exit_code
    more = json.dumps({"exchange_id": "x8", "account": "u", "started_at": 1.76e9})
    log.write_bytes(gzip.compress("\n".join([*LINES, more]).encode()))
    assert 0 == _run("convert", log, "--out", out).exit_code
    assert [f"x{n}" for n in range(9)] == sorted(e.exchange_id for e in read_store(out))
    assert not (out / "quarantine.jsonl").exists()


def test_strict_is_the_users_error(log: Path, tmp_path: Path) -> None:
    """With --strict the first bad line ends the conversion, and the store gains nothing."""
    result = _run("convert", log, "--strict", "--out", tmp_path / "store")
    assert isinstance(result.exception, InvalidInputError)
    assert 2 == result.exception.exit_code
    assert f"{log}:5: the line is no JSON" in str(result.exception)
    assert [] == list(read_store(tmp_path / "store"))


def test_describe(log: Path) -> None:
    """Describing tells the span, the accounts, the fields and the costs of what is missing."""
    result = _run("describe", log)
    assert 0 == result.exit_code, result.output
    assert "8 exchanges of 4 accounts" in result.output
    assert "from 2025-10-09 08:53:20 to 2025-10-12 14:40:00 UTC" in result.output
    assert "network_hash: accounts behind one network cannot be linked by it" in result.output
    assert f"{log}:5: the line is no JSON" in result.output


def test_json_and_stdin(tmp_path: Path) -> None:
    """Standard input is read, and the result can be had as JSON."""
    result = _run("describe", "-", "--json", text="\n".join(LINES).encode())
    assert 8 == json.loads(result.stdout)["description"]["exchanges"]
    added = _run("convert", "-", "--out", tmp_path / "s", text="\n".join(LINES[:3]).encode())
    assert 0 == added.exit_code, added.output
    assert 3 == len(list(read_store(tmp_path / "s")))


def test_accounts_table(log: Path, tmp_path: Path) -> None:
    """A table of accounts is joined and rests beside the store."""
    table = tmp_path / "accounts.csv"
    table.write_text("account,org,plan\nu1,harbour,pro\nu2,,free\n")
    result = _run("convert", log, "--accounts", table, "--out", tmp_path / "store")
    assert 0 == result.exit_code, result.output
    assert "4 of them by accounts that the table knows" in result.output
    orgs = {e.account: e.org for e in read_store(tmp_path / "store")}
    assert {"u0": None, "u1": "harbour", "u2": None, "u3": None} == orgs
    assert (tmp_path / "store/accounts.parquet").exists()


def test_formats() -> None:
    """Every format is listed with its title."""
    result = _run("formats")
    assert 0 == result.exit_code, result.output
    assert list(FORMATS) == [line.split()[0] for line in result.output.splitlines()]
