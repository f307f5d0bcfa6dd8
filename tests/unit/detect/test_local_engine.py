"""The local engine gives what `fold` gives, byte for byte, however the log is shared out."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.engines import local
from stillwatch.detect.engines.census import take_census
from stillwatch.detect.engines.local import fold_logs
from stillwatch.detect.engines.parquet import Unit, read_unit, split_sources, units_of
from stillwatch.detect.engines.shard import Shard, gather_digests, merge_range, sum_totals
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.detect.profiles.tables import to_tables
from stillwatch.detect.profiles.tape import read_tape
from stillwatch.errors import EnvironmentUnfitError, RecordError
from stillwatch.logs.source import find_sources
from stillwatch.record.exchange import Exchange, Message, to_batch
from stillwatch.record.store import scan_store, write_store

_WORDS = (
    "alpha",
    "beta",
    "gamma",
    "the",
    "of",
    "a",
    "in",
    "river",
    "stone",
    "moon",
    "salt",
    "leaf",
)


def _exchanges(n: int, seed: int = 0) -> Iterator[Exchange]:
    rng = np.random.default_rng(seed)
    for i in range(n):
        text = " ".join(rng.choice(_WORDS, int(rng.integers(4, 30)))) + f"\nitem {i % 40}"
        system = (Message("system", "be brief and plain at all times"),) * (i % 3 == 0)
        yield Exchange(
            exchange_id=f"x{rng.integers(2**50):x}",
            account="" if i % 50 == 0 else f"a{min(rng.zipf(1.3), 60)}",
            started_at=1.7e9 + 400.0 * i,
            model=("m", "n")[i % 2],
            messages=(*system, Message("user", text)),
            input_tokens=len(text) // 4,
            output_tokens=i % 97,
            status=429 if i % 31 == 0 else 200,
            network_hash=f"n{i % 7}",
            org=f"o{i % 9}",
            action="block" if i % 41 == 0 else "allow",
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several days."""
    folder = tmp_path_factory.mktemp("log") / "store"
    write_store(folder, _exchanges(700))
    return folder


def _paths(store: Path) -> tuple[Path, ...]:
    return split_sources(find_sources([str(store)])).paths


def _assert_same(expected: Profiles, found: Profiles) -> None:
    assert expected.level == found.level
    for one, other in zip(to_tables(expected), to_tables(found), strict=True):
        assert one.schema == other.schema
        assert one.combine_chunks().equals(other.combine_chunks())


def _apart(units: list[Unit], config: FoldConfig, folder: Path, *, cuts: int) -> Profiles:
    census = take_census(units, config)
    bounds = np.linspace(0, len(census.accounts), cuts + 1).astype(np.int64)
    names = ("00", "01", "02")
    for i, name in enumerate(names):
        shard = Shard(census, bounds, config=config, folder=folder, name=name)
        for unit in units[i :: len(names)]:
            shard.read(read_unit(unit), None)
        shard.finish()
    limit = (256, 64, 20)[census.level]
    for number in range(cuts):
        merge_range(folder, number, limit)
    totals = sum_totals(folder, names)
    return Profiles(census.accounts, totals, gather_digests(folder), census.level)


@pytest.mark.parametrize(("level", "memory"), [(0, 2**30), (1, 700_000), (2, 1)])
def test_equals_fold(store: Path, tmp_path: Path, level: int, memory: int) -> None:
    """Parts folded after a census make the profiles of one fold, at every level."""
    config = FoldConfig(memory_bytes=memory)
    expected = fold(scan_store(store), config)
    assert level == expected.level
    _assert_same(expected, _apart(units_of(_paths(store)), config, tmp_path, cuts=4))
    assert [] == list(tmp_path.glob("totals-*"))


def test_census(store: Path) -> None:
    """The census knows accounts, exchanges, level and the last key of every sample."""
    config = FoldConfig(memory_bytes=1)
    census, profiles = take_census(units_of(_paths(store)), config), fold(scan_store(store), config)
    assert profiles.accounts.equals(census.accounts)
    assert np.array_equal(profiles.totals.exchanges, census.exchanges)
    last = [
        profiles.digests.key[profiles.digests.account == i].max()
        for i in range(profiles.n_accounts)
    ]
    full = census.exchanges > 20
    assert np.array_equal(np.array(last)[full], census.last_key[full])
    assert (np.array(last) <= census.last_key).all()


def test_processes(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes give the profiles and the tape of one, with what comes as a stream added."""
    monkeypatch.setattr(local, "_WORTH_PROCESSES", 0)
    config = FoldConfig(memory_bytes=1)
    stream = [to_batch(_exchanges(60, seed=9))]
    one, two = (
        fold_logs(_paths(store), config, streams=stream, processes=n, tape=tmp_path / str(n))
        for n in (1, 2)
    )
    _assert_same(one, two)
    tapes = [pa.Table.from_batches(read_tape(tmp_path / n)).combine_chunks() for n in "12"]
    assert tapes[0].num_rows == one.n_exchanges
    assert tapes[0].equals(tapes[1])


def test_killed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed ends the run with a sentence, and a broken file with its name."""
    monkeypatch.setattr(local, "_WORTH_PROCESSES", 0)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(_paths(store)[0].read_bytes())
    units = units_of([broken])
    broken.write_bytes(b"PAR1 nothing")
    job = _job(store, tmp_path)
    with local._Crew(job, 1) as crew:
        with pytest.raises(RecordError, match="broken"):
            crew.share([("fold", 0, units[0])])
        os.kill(crew._processes[0].pid or 0, signal.SIGKILL)
        with pytest.raises(EnvironmentUnfitError, match="killed"):
            crew.share([("finish",)])


def _job(store: Path, folder: Path) -> local._Job:
    config = FoldConfig()
    census = take_census(units_of(_paths(store)), config)
    bounds = np.array([0, len(census.accounts)])
    return local._Job(str(folder), config, census, bounds, None)


def test_small_and_empty(store: Path, tmp_path: Path) -> None:
    """A small log starts no process, and nothing gives no profiles."""
    _assert_same(fold(scan_store(store)), fold_logs(_paths(store)))
    assert 0 == fold_logs(()).n_accounts
    write_store(tmp_path / "empty", ())
    assert 0 == fold_logs(_paths(tmp_path / "empty")).n_accounts


def test_splits_sources(store: Path, tmp_path: Path) -> None:
    """Stores and Parquet of the same columns are shared out; all else is left to be read."""
    own, foreign, lines = (tmp_path / n for n in ("own.parquet", "x.parquet", "log.jsonl"))
    pq.write_table(pa.Table.from_batches([to_batch(_exchanges(5))]), own)
    pq.write_table(pa.table({"prompt": ["a"]}), foreign)
    lines.write_text("{}\n")
    split = split_sources(find_sources([str(p) for p in (store, own, foreign, lines)]))
    assert (*sorted(store.glob("day=*/*.parquet")), own) == split.paths
    assert [str(foreign), str(lines)] == [source.name for source in split.others]


def test_units(store: Path) -> None:
    """Units hold every row group once, whole, in order."""
    path = store.parent / "many.parquet"
    table = pa.Table.from_batches([to_batch(_exchanges(100))])
    pq.write_table(table, path, row_group_size=9)
    units = units_of([path], unit_rows=30)
    assert [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)] == [unit.groups for unit in units]
    rows = [row for unit in units for batch in read_unit(unit) for row in batch["exchange_id"]]
    assert table["exchange_id"].to_pylist() == [row.as_py() for row in rows]
