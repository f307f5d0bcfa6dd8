"""The store: everything in, everything out, a folder a day, never half a file."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.record import store
from stillwatch.record.exchange import Answer, Exchange, Message, from_batch
from stillwatch.record.journal import Journal
from stillwatch.record.store import (
    StoreSummary,
    compact,
    count_exchanges,
    day_name,
    free_name,
    read_store,
    scan_store,
    write_store,
)

DAY = 86_400.0


def _exchange(n: int, *, at: float = 0.0, text: str = "hi") -> Exchange:
    return Exchange(
        exchange_id=f"e{n}",
        account=f"a{n % 3}",
        started_at=at,
        messages=(Message(role="system", content="be brief"), Message(role="user", content=text)),
        answers=(Answer(text=f"answer {n}", extra='{"a":1}'),),
        parameters={"stop": ["a"], "temperature": 0.25},
        input_tokens=n,
        tags={"b": "2", "a": "1"},
    )


def _ids(folder: Path) -> list[str]:
    return [exchange.exchange_id for exchange in read_store(folder)]


def test_round_trip(tmp_path: Path) -> None:
    """What is written in any order of days is read back by day, equal."""
    written = [_exchange(n, at=(n * 7 % 5) * DAY + n) for n in range(100)]
    days = tuple(f"1970-01-0{n}" for n in range(1, 6))
    assert StoreSummary(100, 5, days) == write_store(tmp_path / "s", iter(written))
    expected = sorted(written, key=lambda e: e.started_at // DAY)
    assert expected == list(read_store(tmp_path / "s"))
    assert 100 == count_exchanges(tmp_path / "s")


def test_batches_are_bounded(tmp_path: Path) -> None:
    """No batch is larger than asked for, whatever the files hold."""
    write_store(tmp_path, (_exchange(n) for n in range(20_000)))
    sizes = [batch.num_rows for batch in scan_store(tmp_path, batch_size=3000)]
    assert (20_000, True) == (sum(sizes), max(sizes) <= 3000)
    file = pq.ParquetFile(next(tmp_path.glob("day=*/*.parquet")))
    assert 3 == file.metadata.num_row_groups


def test_whole_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that ends with a full row group has no empty one behind it."""
    monkeypatch.setattr(store, "ROW_GROUP", 2)
    write_store(tmp_path, [_exchange(n) for n in range(4)])
    file = pq.ParquetFile(next(tmp_path.glob("day=*/*.parquet")))
    assert (4, 2) == (file.metadata.num_rows, file.metadata.num_row_groups)


def test_long_texts_do_not_pile_up(tmp_path: Path) -> None:
    """Long conversations are written out by their size, not only by their number."""
    text = "x" * 2**20
    write_store(tmp_path, (_exchange(n, at=n % 2 * DAY, text=text) for n in range(70)))
    groups = [pq.ParquetFile(p).metadata.num_row_groups for p in tmp_path.glob("day=*/*.parquet")]
    assert 70 == count_exchanges(tmp_path)
    assert sum(groups) > 2


def test_columns(tmp_path: Path) -> None:
    """Only the columns asked for are read, in the order asked for; an unknown one is refused."""
    write_store(tmp_path, [_exchange(1)])
    batch = next(scan_store(tmp_path, columns=["status", "account"]))
    assert ["status", "account"] == batch.schema.names
    assert [{"status": 200, "account": "a1"}] == batch.to_pylist()
    with pytest.raises(InvalidInputError, match="columns must be among exchange_id, account"):
        next(scan_store(tmp_path, columns=["acount"]))


def test_repeats_are_written_once(tmp_path: Path) -> None:
    """Columns whose values repeat are laid out as dictionaries, those of one row each are not."""
    write_store(tmp_path, [_exchange(n) for n in range(50)])
    (file, *_) = sorted(tmp_path.glob("day=*/*.parquet"))
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    plain = {c.path_in_schema for c in columns if not c.has_dictionary_page}
    dictionaries = {c.path_in_schema for c in columns if c.has_dictionary_page}
    assert {"exchange_id", "started_at", "origin", "answers.list.element.text"} <= plain
    assert {"account", "model", "messages.list.element.content"} <= dictionaries


def test_older_file(tmp_path: Path) -> None:
    """A field that a file lacks reads as null, and as the field's default in an exchange."""
    (tmp_path / "day=1970-01-01").mkdir()
    table = pa.table({"exchange_id": ["e"], "account": ["a"], "started_at": [5.0]})
    pq.write_table(table, tmp_path / "day=1970-01-01" / "old.parquet")
    batch = next(scan_store(tmp_path))
    assert [None] == batch.column("model").to_pylist()
    assert [Exchange(exchange_id="e", account="a", started_at=5.0)] == from_batch(batch)


def test_names(tmp_path: Path) -> None:
    """A nameless call adds; a named one replaces what it wrote before, days gone included."""
    write_store(tmp_path, [_exchange(1)])
    write_store(tmp_path, [_exchange(2)])
    write_store(tmp_path, [_exchange(3), _exchange(4, at=DAY)], name="history")
    assert ["e3", "e1", "e2", "e4"] == _ids(tmp_path)
    write_store(tmp_path, [_exchange(5)], name="history")
    assert ["e5", "e1", "e2"] == _ids(tmp_path)


def test_other_tools(tmp_path: Path) -> None:
    """DuckDB reads the store as hive-partitioned Parquet, days from the folders' names."""
    write_store(tmp_path, [_exchange(n, at=n * DAY) for n in range(3)])
    query = f"select day::text, parameters->>'temperature' from '{tmp_path}/*/*.parquet' order by 1"  # noqa: S608 - a path of pytest's
    found = duckdb.sql(query).fetchall()
    assert [(f"1970-01-0{n}", "0.25") for n in (1, 2, 3)] == found


def test_empty_and_absent(tmp_path: Path) -> None:
    """An empty store reads as empty; a folder that is none is an error."""
    assert StoreSummary(0, 0, ()) == write_store(tmp_path / "empty", [])
    assert ([], 0) == (list(scan_store(tmp_path / "empty")), count_exchanges(tmp_path / "empty"))
    with pytest.raises(RecordError, match="no store here"):
        count_exchanges(tmp_path)


def test_failing_source(tmp_path: Path) -> None:
    """When the source fails nothing of it is seen, and nothing hidden is left."""

    def source() -> Iterator[Exchange]:
        yield _exchange(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_store(tmp_path, source())
    assert [] == _ids(tmp_path)
    assert [] == list(tmp_path.glob("day=*/.*"))


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e15])
def test_bad_time(tmp_path: Path, at: float) -> None:
    """An exchange that belongs to no day is refused."""
    with pytest.raises(InvalidInputError, match="started_at must be"):
        write_store(tmp_path, [_exchange(1, at=at)])


def test_damaged_file(tmp_path: Path) -> None:
    """A file that is no Parquet is named."""
    write_store(tmp_path, [_exchange(1)])
    path = next(tmp_path.glob("day=*/*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordError, match=r"part-000001.parquet: file must be readable Parquet"):
        _ids(tmp_path)


def test_unfit_folder(tmp_path: Path) -> None:
    """A store under a file, and a full disk, are the user's errors, and leave nothing behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="a part of the path is a file"):
        write_store(tmp_path / "file" / "s", [_exchange(1)])
    rng = os.urandom(200_000).hex()  # does not compress
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(EnvironmentUnfitError, match="cannot write the store: the file may not"):
            write_store(tmp_path / "s", [_exchange(1, text=rng)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [] == _ids(tmp_path / "s")
    assert [] == list((tmp_path / "s").glob("day=*/.*"))


def _append(folder: Path, numbers: range) -> None:
    with Journal.open(folder, fsync_interval_s=0, segment_bytes=2000) as journal:
        for n in numbers:
            journal.append_sync(_exchange(n, at=n * 20_000.0))


def test_compact(tmp_path: Path) -> None:
    """Compaction takes what is new, once, however often it is called and over ends of segments."""
    _append(tmp_path / "j", range(10))
    assert 10 == compact(tmp_path / "j", tmp_path / "s").n_exchanges
    assert 0 == compact(tmp_path / "j", tmp_path / "s").n_exchanges
    _append(tmp_path / "j", range(10, 15))
    assert 5 == compact(tmp_path / "j", tmp_path / "s").n_exchanges
    expected = [_exchange(n, at=n * 20_000.0) for n in range(15)]
    assert expected == sorted(read_store(tmp_path / "s"), key=lambda e: e.started_at)


def test_compact_after_a_kill(tmp_path: Path) -> None:
    """Killed before its place was kept, compaction does not add twice, though the journal grew."""
    _append(tmp_path / "j", range(10))
    compact(tmp_path / "j", tmp_path / "s")
    for state in (tmp_path / "s").glob("compacted-*.json"):
        state.unlink()
    _append(tmp_path / "j", range(10, 15))
    assert 15 == compact(tmp_path / "j", tmp_path / "s").n_exchanges
    assert sorted(f"e{n}" for n in range(15)) == sorted(_ids(tmp_path / "s"))


def test_two_journals(tmp_path: Path) -> None:
    """Two journals may share a store, and keep their places apart."""
    _append(tmp_path / "a", range(3))
    _append(tmp_path / "b", range(3, 7))
    for folder in ("a", "b", "a", "b"):
        compact(tmp_path / folder, tmp_path / "s")
    assert sorted(f"e{n}" for n in range(7)) == sorted(_ids(tmp_path / "s"))


def test_compact_nothing(tmp_path: Path) -> None:
    """An absent journal is an error; one without exchanges gives an empty store."""
    with pytest.raises(RecordError, match="no journal here"):
        compact(tmp_path / "j", tmp_path / "s")
    _append(tmp_path / "j", range(0))
    assert 0 == compact(tmp_path / "j", tmp_path / "s").n_exchanges
    assert 0 == count_exchanges(tmp_path / "s")
    (tmp_path / "j" / "journal-00000001.jsonl").write_bytes(b"")
    assert 0 == compact(tmp_path / "j", tmp_path / "t").n_exchanges


def test_bad_state(tmp_path: Path) -> None:
    """A place that cannot be read is named instead of guessed."""
    _append(tmp_path / "j", range(2))
    compact(tmp_path / "j", tmp_path / "s")
    state = next((tmp_path / "s").glob("compacted-*.json"))
    state.write_text("{}")
    with pytest.raises(RecordError, match="must hold a place in a journal"):
        compact(tmp_path / "j", tmp_path / "s")


KILLED = """
import sys
from pathlib import Path
from stillwatch.record.store import compact
print("begun", flush=True)
compact(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_compact_kill_9(tmp_path: Path) -> None:
    """Killed with -9 at any moment and called again, compaction keeps every exchange once."""
    journal, rest = tmp_path / "j", tmp_path / "s"
    with Journal.open(journal, fsync_interval_s=0) as writer:
        for n in range(400):
            writer.append_sync(_exchange(n, at=n * 1000.0))
    command = [sys.executable, "-c", KILLED, str(journal), str(rest)]
    for pause_s in (0.0, 0.01, 0.03):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert b"begun\n" == child.stdout.readline()
            time.sleep(pause_s)
            child.kill()
    compact(journal, rest)
    assert sorted(f"e{n}" for n in range(400)) == sorted(_ids(rest))
    assert [] == list(rest.glob("day=*/.*"))


def test_left_overs_go(tmp_path: Path) -> None:
    """A half-written file of a killed call is never read, and goes with the next call."""
    write_store(tmp_path, [_exchange(1)])
    left = tmp_path / "day=1970-01-01" / ".part-000002.parquet.part"
    left.write_bytes(b"PAR1 half")
    assert ["e1"] == _ids(tmp_path)
    write_store(tmp_path, [_exchange(2)])
    assert (["e1", "e2"], False) == (_ids(tmp_path), left.exists())


def test_two_writers(tmp_path: Path) -> None:
    """Two writers at the same time take turns, and neither replaces the other's files."""
    threads = [
        threading.Thread(target=write_store, args=(tmp_path, [_exchange(n)])) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"e{n}" for n in range(8)} == set(_ids(tmp_path))


MEMORY = """
import resource, sys
from pathlib import Path
from stillwatch.record.exchange import Exchange, Message
from stillwatch.record.store import scan_store, write_store

def source(n):
    for i in range(n):
        text = f"{i} " * 300
        yield Exchange(exchange_id=str(i), account="a", started_at=i % 4 * 86400.0,
                       messages=(Message(role="user", content=text),))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

write_store(Path(sys.argv[1]), source(2000), name="warm")
before = peak()
write_store(Path(sys.argv[1]), source(60_000), name="all")
rows = sum(batch.num_rows for batch in scan_store(Path(sys.argv[1]), batch_size=1024))
print(rows, peak() - before)
"""


@pytest.mark.slow
def test_memory(tmp_path: Path) -> None:
    """Writing and reading 100 MB of text takes no more memory than the row groups under way."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, grown_mb = map(int, told.split())
    assert 62_000 == rows
    assert grown_mb < 300


def test_replaced_exchange_is_equal(tmp_path: Path) -> None:
    """Every field of an exchange survives the store."""
    full = msgspec.structs.replace(
        _exchange(1, at=3.5),
        first_output_at=3.6,
        ended_at=4.0,
        model="m",
        model_returned="m-1",
        tools_hash="t",
        output_tokens=7,
        status=429,
        error="rate",
        streamed=True,
        org="o",
        key_hash="k",
        ip_hash="i",
        network_hash="n",
        user_agent="u",
        session="s",
        action="throttle",
        campaign_id="c",
        mark_key_id="w",
        origin="f:1",
    )
    write_store(tmp_path, [full])
    assert [full] == list(read_store(tmp_path))


def test_names_for_other_writers(tmp_path: Path) -> None:
    """Days are named alike by all who write, and a free name is the next number's."""
    assert ["1969-12-31", "1970-01-01", "2000-02-29"] == [day_name(n) for n in (-1, 0, 11_016)]
    with pytest.raises(InvalidInputError, match="between the years 1 and 9999"):
        day_name(10**9)
    assert "part-000001" == free_name(tmp_path)
    write_store(tmp_path, [_exchange(1)])
    assert "part-000002" == free_name(tmp_path)
