"""`logs forget` and `logs retain`: what they take, what they say, what they refuse."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stillwatch.cli.logs_forget import forget, retain, rotate_key
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.journal import Journal
from stillwatch.record.privacy import KeyedHash
from stillwatch.record.store import compact, count_exchanges, read_store

DAY = 86_400.0


@pytest.fixture
def record(tmp_path: Path) -> list[str]:
    """A journal and its store: exchanges of two accounts, one a day until now."""
    now = time.time()
    with Journal.open(tmp_path / "j", fsync_interval_s=0) as journal:
        for n in range(10):
            journal.append_sync(
                Exchange(
                    exchange_id=f"e{n}",
                    account=f"a{n % 2}",
                    started_at=now - (n + 0.5) * DAY,
                    messages=(Message(role="user", content="hi"),),
                )
            )
    compact(tmp_path / "j", tmp_path / "s")
    return ["--store", str(tmp_path / "s"), "--journal", str(tmp_path / "j")]


def _run(command: object, *words: str) -> Result:
    return CliRunner().invoke(command, list(words), catch_exceptions=True)


def test_forget(tmp_path: Path, record: list[str]) -> None:
    """A dry run says what would go; the run says what went."""
    told = _run(forget, "a1", *record, "--dry-run").output
    assert "5 exchanges would be erased from" in told
    assert 10 == count_exchanges(tmp_path / "s")
    told = _run(forget, "a1", "nobody", *record).output
    expected = [f"5 exchanges erased from {tmp_path / name}" for name in ("j", "s")]
    assert expected == told.splitlines()
    assert {"a0"} == {exchange.account for exchange in read_store(tmp_path / "s")}


def test_retain(tmp_path: Path, record: list[str]) -> None:
    """Texts and exchanges go at their ages, counted in JSON too."""
    told = _run(retain, *record, "--bodies", "60h", "--events", "1w", "--json").output
    assert {"n_journal": 8, "n_store": 3, "n_bodies": 5, "n_unread": 0} == json.loads(told)
    assert 7 == count_exchanges(tmp_path / "s")
    again = _run(retain, *record, "--bodies", "60h", "--events", "1w").output.splitlines()
    assert [
        f"0 exchanges went from {tmp_path / 'j'}",
        f"0 exchanges and 0 texts went from {tmp_path / 's'}",
    ] == again


def test_damage_is_told(tmp_path: Path, record: list[str]) -> None:
    """Lines that cannot be judged are said on the error stream."""
    path = tmp_path / "j" / "journal-00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"account":"a0"', b'"account":"aX"', 1))
    told = _run(forget, "a1", *record)
    assert f"1 damaged lines of {tmp_path / 'j'} could not be read and stay\n" == told.stderr


@pytest.mark.parametrize("age", ["7", "d", "-1d", "7 days", "1e3d"])
def test_bad_age(record: list[str], age: str) -> None:
    """An age without a unit of ours is refused with exit 2."""
    told = _run(retain, *record, f"--bodies={age}")
    assert 2 == told.exit_code
    assert "must be a number and one of s, m, h, d, w, y" in told.output


def test_rotate_key(tmp_path: Path) -> None:
    """A key file is made, then rotated; what it says holds no key."""
    path = tmp_path / "hash.key"
    assert (
        f"{path}: a new key, and 0 to recognise older hashes\n"
        == _run(rotate_key, str(path)).output
    )
    old = KeyedHash.from_file(path).hash("a", "b")
    assert (
        f"{path}: a new key, and 1 to recognise older hashes\n"
        == _run(rotate_key, str(path)).output
    )
    assert KeyedHash.from_file(path).recognises(old, kind="a", value="b")


def test_nothing_named(record: list[str]) -> None:
    """Without an age, an account or a place nothing is done, and it is said."""
    assert (2, True) == (
        _run(retain, *record).exit_code,
        "name at least one of --bodies and --events" in _run(retain, *record).output,
    )
    assert 2 == _run(forget, *record).exit_code
    assert isinstance(_run(forget, "a1").exception, InvalidInputError)
