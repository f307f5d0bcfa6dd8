"""Forgetting: all of an account goes, nothing else does, whatever happens meanwhile."""

import hashlib
import itertools
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.record.bodies import has_body, without_bodies
from stillwatch.record.erasure import TailLock
from stillwatch.record.exchange import Answer, Exchange, Message, from_batch, to_batch
from stillwatch.record.forget import Forgotten, Retention, apply_retention, forget_accounts
from stillwatch.record.journal import (
    Journal,
    JournalCheck,
    Position,
    read_journal,
    verify_journal,
)
from stillwatch.record.segments import encode_line
from stillwatch.record.store import compact, read_store, scan_store, write_store
from stillwatch.record.tombstone import SHORTEST, forgotten_digest, tombstone

DAY = 86_400.0
FIRST = "journal-00000001.jsonl"


def _exchange(n: int, *, account: str | None = None, at: float | None = None) -> Exchange:
    return Exchange(
        exchange_id=f"e{n}",
        account=f"a{n % 5}" if account is None else account,
        started_at=n * DAY / 4 if at is None else at,
        messages=(
            Message(role="system", content="be brief"),
            Message(role="user", content=f"secret {n}", extra='{"image":1}' if n % 2 else None),
        ),
        answers=tuple(
            Answer(text=f"said {n}", finish_reason="stop", reasoning="hm", extra="[]")
            for _ in range(n % 3)
        ),
        parameters={"account": "a1", "stop": ["secret"]} if n % 4 else {"account": "a1"},
        tags={"account": "a2"},
        output_tokens=7,
    )


def _fill(folder: Path, numbers: range, *, segment_bytes: int = 2000) -> None:
    with Journal.open(folder, fsync_interval_s=0, segment_bytes=segment_bytes) as journal:
        for n in numbers:
            journal.append_sync(_exchange(n))


def _journal(folder: Path) -> list[Exchange]:
    return [exchange for _, exchange in read_journal(folder)]


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_account(tmp_path: Path) -> None:
    """All of an account leaves journal and store, all others stay as they were."""
    journal, store = tmp_path / "j", tmp_path / "s"
    _fill(journal, range(30))
    compact(journal, store)
    names = [path.name for path in journal.glob("*.jsonl")]
    sizes = [path.stat().st_size for path in sorted(journal.glob("*.jsonl"))]
    assert Forgotten(6, 6) == forget_accounts(["a3"], store=store, journal=journal, dry_run=True)
    assert 30 == len(_journal(journal))
    assert Forgotten(6, 6) == forget_accounts(["a3"], store=store, journal=journal)
    left = [_exchange(n) for n in range(30) if n % 5 != 3]
    assert left == _journal(journal)
    assert left == list(read_store(store))
    assert Forgotten() == forget_accounts(["a3"], store=store, journal=journal)
    assert 0 == compact(journal, store).n_exchanges
    assert b"secret 13" not in _bytes(journal)
    assert sorted(names) == sorted(path.name for path in journal.glob("*.jsonl"))
    assert sizes == [path.stat().st_size for path in sorted(journal.glob("*.jsonl"))]


def test_links_and_places_hold(tmp_path: Path) -> None:
    """Forgetting breaks no link, moves no place, and shows as what it is."""
    _fill(tmp_path, range(20))
    places = {exchange.exchange_id: place for place, exchange in read_journal(tmp_path)}
    forget_accounts(["a0", "a1"], journal=tmp_path)
    after = {exchange.exchange_id: place for place, exchange in read_journal(tmp_path)}
    assert {name: places[name] for name in after} == after
    _fill(tmp_path, range(20, 25))
    check = verify_journal(tmp_path)
    assert JournalCheck(check.n_segments, 17, 0, (), 8) == check
    news = [exchange.exchange_id for _, exchange in read_journal(tmp_path, after=places["e19"])]
    assert ["e20", "e21", "e22", "e23", "e24"] == news


def test_no_tombstone_can_be_forged_unseen(tmp_path: Path) -> None:
    """A line overwritten by another tombstone than its own breaks the link of the next segment."""
    _fill(tmp_path, range(10), segment_bytes=1500)
    path = tmp_path / FIRST
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"forgotten":"' + b"0" * 64 + b'"}' + b" " * (len(lines[1]) - 81) + b"\n"
    path.write_bytes(b"".join(lines))
    assert (2,) == verify_journal(tmp_path).broken_links


def test_shortest_line_has_room() -> None:
    """The shortest exchange that can be written is long enough to be forgotten."""
    shortest = encode_line(Exchange(exchange_id="", account="", started_at=0.0))
    assert len(shortest) >= SHORTEST


def test_odd_accounts(tmp_path: Path) -> None:
    """Accounts are matched whole, whatever signs they hold."""
    odd = ['"', "\\", "ü", "\u2028", "a", "aa", "a\n", "\0"]
    journal, store = tmp_path / "j", tmp_path / "s"
    with Journal.open(journal, fsync_interval_s=0) as writer:
        for n, account in enumerate(odd):
            writer.append_sync(_exchange(n, account=account))
    compact(journal, store)
    for n, account in enumerate(odd):
        assert Forgotten(1, 1) == forget_accounts([account], store=store, journal=journal)
        assert odd[n + 1 :] == [exchange.account for exchange in _journal(journal)]
        assert odd[n + 1 :] == [exchange.account for exchange in read_store(store)]
    assert [] == list(store.glob("day=*/*"))


def test_beside_a_live_writer(tmp_path: Path) -> None:
    """While a writer appends and a reader reads, accounts are forgotten and no other is lost."""
    journal = Journal.open(tmp_path, fsync_interval_s=0, segment_bytes=20_000)
    done = threading.Event()
    numbers = itertools.count(1000)
    last = [0]

    def write() -> None:
        while not done.is_set():
            last[0] = next(numbers)
            journal.append_sync(_exchange(last[0], account=f"b{last[0] % 3}"))

    def read() -> None:
        place: Position | None = None
        while not done.is_set():
            news = list(read_journal(tmp_path, after=place))
            place = news[-1][0] if news else place
            list(read_journal(tmp_path))

    for n in range(300):
        journal.append_sync(_exchange(n))
    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    for account in ("a0", "a1", "a2", "a3", "a4"):
        assert 60 == forget_accounts([account], journal=tmp_path).n_journal
    done.set()
    for thread in threads:
        thread.join()
    forget_accounts(["b0"], journal=tmp_path)
    journal.append_sync(_exchange(1))
    journal.close()
    kept = [f"e{n}" for n in range(1000, last[0] + 1) if n % 3 != 0]
    assert [*kept, "e1"] == [exchange.exchange_id for exchange in _journal(tmp_path)]
    assert ((), 0) == (
        verify_journal(tmp_path).broken_links,
        verify_journal(tmp_path).damaged_lines,
    )


def test_line_overwritten_while_it_is_read(tmp_path: Path) -> None:
    """A line of which a reader has the first half before it is forgotten is no damage to it."""
    with Journal.open(tmp_path, fsync_interval_s=0) as journal:
        journal.append_sync(_exchange(0))
        long = Message(role="user", content="x" * 300_000)
        journal.append_sync(msgspec.structs.replace(_exchange(1), messages=(long,)))
        journal.append_sync(_exchange(2))
    reading = read_journal(tmp_path)
    assert "e0" == next(reading)[1].exchange_id
    forget_accounts(["a1"], journal=tmp_path)
    assert ["e2"] == [exchange.exchange_id for _, exchange in reading]


def test_writer_waits_for_the_tail(tmp_path: Path) -> None:
    """While an erasure holds the end of the journal nothing is written there, and all is after."""
    journal = Journal.open(tmp_path, fsync_interval_s=0)
    tail = TailLock(tmp_path)
    with tail:
        thread = threading.Thread(target=journal.append_sync, args=(_exchange(1),))
        thread.start()
        thread.join(0.2)
        assert (True, []) == (thread.is_alive(), _journal(tmp_path))
    thread.join()
    tail.close()
    journal.close()
    assert [_exchange(1)] == _journal(tmp_path)


def test_killed_between_plan_and_deed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure killed with half a line overwritten is finished when the journal opens."""
    _fill(tmp_path, range(10))
    real = os.pwrite

    def half(handle: int, data: bytes, at: int) -> int:
        if not data.startswith(b'{"forgotten":'):
            return real(handle, data, at)
        real(handle, data[: len(data) // 2], at)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(RecordError, match="cannot erase from the journal"):
            forget_accounts(["a2"], journal=tmp_path)
    with pytest.raises(RecordError, match="checksum"):
        _journal(tmp_path)
    Journal.open(tmp_path).close()
    assert [] == list(tmp_path.glob("erasing.json"))
    assert 9 == len(_journal(tmp_path))
    assert Forgotten(1) == forget_accounts(["a2"], journal=tmp_path)
    assert [_exchange(n) for n in range(10) if n % 5 != 2] == _journal(tmp_path)
    assert () == verify_journal(tmp_path).broken_links


KILLED = """
import sys
from pathlib import Path
from stillwatch.record.forget import forget_accounts
print("begun", flush=True)
forget_accounts(["a1", "a3"], store=Path(sys.argv[1]) / "s", journal=Path(sys.argv[1]) / "j")
"""


def test_kill_9(tmp_path: Path) -> None:
    """Killed at any moment and called again, forgetting ends as if it had never been killed."""
    _fill(tmp_path / "j", range(600), segment_bytes=50_000)
    compact(tmp_path / "j", tmp_path / "s")
    for pause_s in (0.0, 0.005, 0.01, 0.02, 0.04, 0.06):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert b"begun\n" == child.stdout.readline()
            time.sleep(pause_s)
            child.kill()
    forget_accounts(["a1", "a3"], store=tmp_path / "s", journal=tmp_path / "j")
    left = [_exchange(n) for n in range(600) if n % 5 not in (1, 3)]
    assert left == _journal(tmp_path / "j")
    assert left == sorted(read_store(tmp_path / "s"), key=lambda e: e.started_at)
    assert () == verify_journal(tmp_path / "j").broken_links
    assert [] == list((tmp_path / "s").glob("day=*/.*"))


def test_torn_and_damaged_lines(tmp_path: Path) -> None:
    """A torn end is cut off; a damaged line goes when it shows the account, else it is counted."""
    _fill(tmp_path, range(10), segment_bytes=2**20)
    path = tmp_path / FIRST
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"secret", b"secreT")  # of a3
    lines[5] = lines[5].replace(b'"account":"a4"', b'"account":"aX"')
    path.write_bytes(b"".join(lines)[:-30])  # the end is of a4
    assert Forgotten(2, n_unread=1) == forget_accounts(["a3"], journal=tmp_path)
    raw = _bytes(tmp_path)
    assert (False, False, True) == (b"secreT 3" in raw, b"secret 9" in raw, b"secret 4" in raw)


def test_set_aside_end(tmp_path: Path) -> None:
    """A rotten end that was set aside goes with the account that it shows."""
    _fill(tmp_path, range(4), segment_bytes=2**20)
    path = tmp_path / FIRST
    raw = path.read_bytes()
    path.write_bytes(raw[:-20] + b"\0\0" + raw[-18:])
    Journal.open(tmp_path).close()
    assert 1 == len(list(tmp_path.glob("*.torn-*")))
    forget_accounts(["a1"], journal=tmp_path)
    assert 1 == len(list(tmp_path.glob("*.torn-*")))
    forget_accounts(["a3"], journal=tmp_path)
    assert [] == list(tmp_path.glob("*.torn-*"))


def test_older_store_files(tmp_path: Path) -> None:
    """Files that lack columns, or hold more, keep their shape."""
    (tmp_path / "day=1970-01-01").mkdir()
    path = tmp_path / "day=1970-01-01" / "old.parquet"
    table = pa.table({"exchange_id": ["e", "f"], "account": ["a", None], "started_at": [5.0, 6.0]})
    pq.write_table(table.append_column("later", pa.array([1, 2])), path)
    assert Forgotten(0, 1) == forget_accounts(["a"], store=tmp_path)
    assert ["exchange_id", "account", "started_at", "later"] == pq.read_schema(path).names
    assert ["f"] == next(scan_store(tmp_path, columns=["exchange_id"])).column(0).to_pylist()
    retention = Retention(bodies_s=1.0)
    assert Forgotten() == apply_retention(retention, now=DAY, store=tmp_path)


def test_large_store(tmp_path: Path) -> None:
    """Files of several row groups are rewritten group by group, in order."""
    write_store(tmp_path, (_exchange(n, at=float(n)) for n in range(20_000)))
    assert Forgotten(0, 4000) == forget_accounts(["a4"], store=tmp_path)
    names = [name for b in scan_store(tmp_path) for name in b.column("exchange_id").to_pylist()]
    assert [f"e{n}" for n in range(20_000) if n % 5 != 4] == names


def _bare(exchange: Exchange) -> Exchange:
    return msgspec.structs.replace(
        exchange,
        messages=tuple(Message(role=m.role, content="") for m in exchange.messages),
        answers=tuple(Answer(text="", finish_reason=a.finish_reason) for a in exchange.answers),
        parameters={"account": "a1"},
    )


def test_retention(tmp_path: Path) -> None:
    """Bodies go first and leave the event; events go later; the rest is untouched."""
    journal, store = tmp_path / "j", tmp_path / "s"
    _fill(journal, range(20))
    compact(journal, store)
    _fill(journal, range(20, 40))
    retention = Retention(bodies_s=3 * DAY, events_s=8 * DAY)
    now = 10 * DAY
    assert Forgotten(28, 8, 20) == apply_retention(retention, now=now, store=store, journal=journal)
    expected = [
        _bare(_exchange(n)) if n * DAY / 4 < 7 * DAY else _exchange(n) for n in range(8, 40)
    ]
    assert expected == list(read_store(store))
    assert [_exchange(n) for n in range(28, 40)] == _journal(journal)
    assert Forgotten() == apply_retention(retention, now=now, store=store, journal=journal)
    assert 0 == compact(journal, store).n_exchanges
    assert b"secret 27" not in _bytes(journal)


def test_what_is_body() -> None:
    """Texts, tool calls and long or nested parameters are body; counts, roles and names are not."""
    plain = {"temperature": 0.5, "seed": 1, "service_tier": "default", "user": None, "n": True}
    base = Exchange(exchange_id="e", account="a", started_at=1.0)
    bodies = [
        {"messages": (Message(role="user", content="hi"),)},
        {"messages": (Message(role="user", content="", extra="[]"),)},
        {"answers": (Answer(text="x"),)},
        {"answers": (Answer(text=""), Answer(text="", reasoning="hm"))},
        {"parameters": {"stop": ["a"]}},
        {"parameters": {**plain, "user": "u" * 33}},
    ]
    bare = [
        {"messages": (Message(role="user", content=""),)},
        {"answers": (Answer(text="", finish_reason="stop"),)},
        {"parameters": plain},
        {},
    ]
    exchanges = [msgspec.structs.replace(base, **known) for known in bodies + bare]
    batch = to_batch([base, *exchanges]).slice(1)  # a slice has offsets of its own
    assert [True] * 6 + [False] * 4 == has_body(batch).to_pylist()
    emptied = without_bodies(batch, has_body(batch))
    assert [False] * 10 == has_body(emptied).to_pylist()
    assert exchanges[6:] == from_batch(emptied)[6:]
    assert [base, base] == [
        msgspec.structs.replace(e, messages=(), answers=()) for e in from_batch(emptied)[3:5]
    ]
    assert {**plain} | {"user": None} == from_batch(emptied)[8].parameters
    assert {name: value for name, value in plain.items() if name != "user"} == (
        from_batch(emptied)[5].parameters
    )


def test_retention_frees_the_journal(tmp_path: Path) -> None:
    """Segments of which all is gone are removed, and the rest still proves its links."""
    journal = tmp_path / "j"
    _fill(journal, range(40))
    before = verify_journal(journal).n_segments
    place = [place for place, _ in read_journal(journal)][29]
    apply_retention(Retention(events_s=2 * DAY), now=9.5 * DAY, journal=journal)
    check = verify_journal(journal)
    assert check.n_segments < before / 2
    assert ((), 0, 10) == (check.broken_links, check.damaged_lines, check.n_exchanges)
    assert [_exchange(n) for n in range(30, 40)] == [
        e for _, e in read_journal(journal, after=place)
    ]
    _fill(journal, range(40, 50))
    assert [_exchange(n) for n in range(30, 50)] == _journal(journal)
    assert 20 == compact(journal, tmp_path / "s").n_exchanges
    segment = min(journal.glob("*.jsonl"))
    segment.unlink()
    assert 1 == len(verify_journal(journal).broken_links)


def test_killed_while_removing_segments(tmp_path: Path) -> None:
    """Segments whose removal was cut short are passed over, and go with the next call."""
    _fill(tmp_path, range(40))
    retention = Retention(events_s=2 * DAY)
    forget_accounts([f"a{n}" for n in range(4)], journal=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    apply_retention(retention, now=9.5 * DAY, journal=tmp_path)
    gone = {path: raw for path, raw in before.items() if not path.exists()}
    assert len(gone) > 2
    for path, raw in list(gone.items())[1:]:
        head, *lines = raw.splitlines(keepends=True)
        digests = [forgotten_digest(line) or hashlib.sha256(line).digest() for line in lines]
        stand_ins = [tombstone(d, length=len(x)) for d, x in zip(digests, lines, strict=True)]
        path.write_bytes(head + b"".join(stand_ins))
    assert ["e34", "e39"] == [exchange.exchange_id for exchange in _journal(tmp_path)]
    assert () == verify_journal(tmp_path).broken_links
    _fill(tmp_path, range(40, 41))
    assert 0 == apply_retention(retention, now=9.5 * DAY, journal=tmp_path).n_journal
    assert [] == [path for path in gone if path.exists()]
    assert () == verify_journal(tmp_path).broken_links


def test_retention_counts_first(tmp_path: Path) -> None:
    """A dry run counts and changes nothing."""
    journal, store = tmp_path / "j", tmp_path / "s"
    _fill(journal, range(20))
    compact(journal, store)
    retention = Retention(bodies_s=DAY, events_s=3 * DAY)
    found = apply_retention(retention, now=5 * DAY, store=store, journal=journal, dry_run=True)
    assert (Forgotten(16, 8, 8), 20) == (found, len(_journal(journal)))
    assert [_exchange(n) for n in range(20)] == list(read_store(store))


def test_nothing_is_taken_that_the_store_lacks(tmp_path: Path) -> None:
    """A body leaves the journal only when its exchange stands in the store."""
    _fill(tmp_path / "j", range(4))
    with pytest.raises(InvalidInputError, match="store must be named to take bodies out"):
        apply_retention(Retention(bodies_s=1.0), now=9 * DAY, journal=tmp_path / "j")
    found = apply_retention(
        Retention(bodies_s=1.0), now=9 * DAY, journal=tmp_path / "j", store=tmp_path / "s"
    )
    assert (Forgotten(4, 0, 4), 4) == (found, len(list(read_store(tmp_path / "s"))))


@pytest.mark.parametrize("accounts", ["a1", [], [""], ["a", ""], ["\ud800"]])
def test_bad_accounts(tmp_path: Path, accounts: list[str]) -> None:
    """What names no account is refused before anything is touched."""
    with pytest.raises(InvalidInputError, match="accounts must be"):
        forget_accounts(accounts, store=tmp_path)


def test_bad_places(tmp_path: Path) -> None:
    """Absent folders and bad ages are said in one sentence, and nothing is made."""
    with pytest.raises(InvalidInputError, match="store or journal must be named"):
        forget_accounts(["a"])
    with pytest.raises(RecordError, match="no store here"):
        forget_accounts(["a"], store=tmp_path / "s")
    with pytest.raises(RecordError, match="no journal here"):
        forget_accounts(["a"], journal=tmp_path / "j")
    with pytest.raises(InvalidInputError, match="bodies_s must be 0 or more seconds"):
        Retention(bodies_s=-1.0)
    with pytest.raises(InvalidInputError, match="now must be finite"):
        apply_retention(Retention(), now=float("nan"), store=tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_reading_a_store_meanwhile(tmp_path: Path) -> None:
    """A reader of the store is not disturbed by files that are rewritten or go."""
    write_store(tmp_path, [_exchange(n, account=f"a{n // 4}") for n in range(20)])
    batches = scan_store(tmp_path, columns=["exchange_id"])
    first = next(batches).column(0).to_pylist()
    forget_accounts(["a0", "a3"], store=tmp_path)
    rest = [name for batch in batches for name in batch.column(0).to_pylist()]
    left = [f"e{n}" for n in range(20) if n // 4 not in (0, 3)]
    assert [f"e{n}" for n in range(4)] + left == first + rest


def test_full_disk(tmp_path: Path) -> None:
    """When a file of the store cannot be rewritten it stays whole, and no half one is left."""
    write_store(tmp_path, [_exchange(n, at=float(n)) for n in range(2000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot write the store: the file may not"):
            forget_accounts(["a1"], store=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 2000 == len(list(read_store(tmp_path)))
    assert [] == list(tmp_path.glob("day=*/.*"))
    assert Forgotten(0, 400) == forget_accounts(["a1"], store=tmp_path)
