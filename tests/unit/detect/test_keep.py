"""Profiles rest on disk between runs."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from detect_world import DetectWorld
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import (
    FoldConfig,
    Profiles,
    find_campaigns,
    fold,
    no_profiles,
    write_findings,
)
from stillwatch.detect.profiles.keep import (
    Marks,
    forget_accounts,
    is_kept,
    load_profiles,
    merge_kept,
    read_head,
    save_profiles,
    updating,
)
from stillwatch.detect.profiles.levels import at_level
from stillwatch.detect.profiles.overlap import find_overlap
from stillwatch.detect.profiles.tables import pack, unpack
from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.record.exchange import Exchange, Message, to_batch


def _log(start: int, stop: int, *, accounts: int = 7) -> list[Exchange]:
    return [
        Exchange(
            exchange_id=f"x{n}",
            account=f"a{n * n % accounts}",
            started_at=1e9 + n,
            messages=(
                Message("user", f"please count the boats of page {n}, then\nsay why {n * 7}"),
            ),
            output_tokens=n,
            org="o",
        )
        for n in range(start, stop)
    ]


def _fold(exchanges: list[Exchange], config: FoldConfig | None = None) -> Profiles:
    return fold([to_batch(exchanges)], config)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_comes_back_is_what_was_saved(
    level: int, folded: tuple[Profiles, Profiles], tmp_path: Path
) -> None:
    """Profiles of every level come back byte for byte, in arrays that may be written to."""
    profiles = at_level(folded[0], level)
    save_profiles(profiles, tmp_path)
    back = load_profiles(tmp_path)
    assert pack(profiles) == pack(back) == pack(unpack(pack(profiles)))
    assert level == back.level
    assert all(column.flags.writeable for column in back.totals)
    assert [c.dtype for c in profiles.totals] == [c.dtype for c in back.totals]
    assert profiles.digests.shingles.values.dtype == back.digests.shingles.values.dtype


def test_no_profiles_come_back_too(tmp_path: Path) -> None:
    """A run that met nothing leaves profiles of nobody."""
    head = save_profiles(no_profiles(), tmp_path)
    assert (None, None) == (head.first_seen, head.last_seen)
    assert pack(no_profiles()) == pack(load_profiles(tmp_path))


def test_saving_the_same_gives_the_same_bytes(tmp_path: Path) -> None:
    """What is saved depends on the profiles alone."""
    for name in ("one", "two"):
        save_profiles(_fold(_log(0, 40)), tmp_path / name)
    assert _names(tmp_path / "one") == _names(tmp_path / "two")
    for name in _names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_yesterday_and_today_make_the_campaigns_of_both(
    world: DetectWorld, folded: tuple[Profiles, Profiles], tmp_path: Path
) -> None:
    """Three runs of a few days each end with the campaigns of one run over everything."""
    days = np.array_split(np.arange(len(world.live)), 3)
    for rows in days:
        fresh = _fold([world.live[i] for i in rows])
        with updating(tmp_path / "kept"):
            whole = merge_kept(fresh, tmp_path / "kept")
            save_profiles(whole, tmp_path / "kept")
    bodies = []
    for name, profiles in (("days", load_profiles(tmp_path / "kept")), ("once", folded[0])):
        write_findings(find_campaigns(profiles, folded[1]), tmp_path / name)
        bodies.append((tmp_path / name / "campaigns.json").read_bytes())
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["campaigns"]


@pytest.mark.parametrize("memory_bytes", [2**30, 60_000, 1])
def test_a_coarser_day_merges_like_a_coarser_log(memory_bytes: int, tmp_path: Path) -> None:
    """When the memory is used up on the second day, both days become as coarse as at once."""
    config = FoldConfig(memory_bytes=memory_bytes)
    save_profiles(_fold(_log(0, 60), config), tmp_path, config=config)
    whole = merge_kept(_fold(_log(60, 200), config), tmp_path, config=config)
    assert pack(_fold(_log(0, 200), config)) == pack(whole)


def test_the_same_log_again_changes_nothing(tmp_path: Path) -> None:
    """A run that is repeated counts nothing twice."""
    save_profiles(_fold(_log(0, 90)), tmp_path)
    again = merge_kept(_fold(_log(30, 60)), tmp_path)
    assert pack(_fold(_log(0, 90))) == pack(again)


def test_half_a_log_again_is_refused(tmp_path: Path) -> None:
    """A log that holds old and new exchanges would count the old ones twice."""
    save_profiles(_fold(_log(0, 90)), tmp_path)
    with pytest.raises(InvalidInputError, match="none that the profiles hold already, got '30 of"):
        merge_kept(_fold(_log(60, 120)), tmp_path)


def test_line_numbers_as_ids_are_no_overlap(tmp_path: Path) -> None:
    """Logs whose exchanges are numbered from 1 every day are still different logs."""
    monday = _log(0, 50)
    tuesday = [
        Exchange(exchange_id=e.exchange_id, account=e.account, started_at=e.started_at + 86400.0)
        for e in monday
    ]
    save_profiles(_fold(monday), tmp_path)
    assert 100 == merge_kept(_fold(tuesday), tmp_path).n_exchanges


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 12))
def test_overlap_is_seen_through_the_samples(start: int, size: int, kept: int) -> None:
    """Whole, part or none: told from the few exchanges that are kept of each account."""
    config = FoldConfig(digests_per_account=kept)
    older, newer = _fold(_log(0, 60), config), _fold(_log(start, start + size), config)
    overlap = find_overlap(older, newer)
    again = max(0, min(60, start + size) - start)
    assert overlap.n_shared <= min(again, overlap.n_looked_for)
    if overlap.is_whole:
        assert again == size
    if kept == 12:  # an account has at most 18 of 60, most of them kept
        assert (again > 12) <= (overlap.n_shared > 0)


def test_profiles_folded_otherwise_are_refused(tmp_path: Path) -> None:
    """Hashes of other shingles cannot be compared, and the setting is named."""
    save_profiles(_fold(_log(0, 9)), tmp_path)
    with pytest.raises(InvalidInputError, match="shingle_width must be as in this run, 4, got 5"):
        load_profiles(tmp_path, config=FoldConfig(shingle_width=4))


def test_memory_may_change_between_runs(tmp_path: Path) -> None:
    """Levels are nested, so another bound on memory is no other folding."""
    save_profiles(_fold(_log(0, 9)), tmp_path)
    assert 9 == load_profiles(tmp_path, config=FoldConfig(memory_bytes=1)).n_exchanges


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"profiles": 99}, "profiles must be version 1, got 99"),
        ({"probe": {"hashes": "0", "features": ""}}, "probe must be that of this version"),
        ({"marks": {"hash_key": "other"}}, "hash_key must be that of this run"),
        ({"marks": {"embedder": "other"}}, "embedder must be as in this run, '', got 'other'"),
    ],
)
def test_profiles_of_another_version_or_key_are_refused(
    change: dict[str, object], expected: str, tmp_path: Path
) -> None:
    """What other code hashed, or hashed under another key, is refused and not merged wrongly."""
    save_profiles(_fold(_log(0, 9)), tmp_path, marks=Marks(hash_key="mine"))
    path = tmp_path / "profiles.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidInputError, match=expected):
        load_profiles(tmp_path, marks=Marks(hash_key="mine"))


@pytest.mark.parametrize("damage", ["flip", "cut", "head", "count", "lost", "fields"])
def test_damage_is_seen(damage: str, tmp_path: Path) -> None:
    """Rotten, shortened, lost and foreign files are one sentence, never wrong profiles."""
    head = save_profiles(_fold(_log(0, 90)), tmp_path)
    digests, top = tmp_path / head.digests.name, tmp_path / "profiles.json"
    raw = bytearray(digests.read_bytes())
    if damage == "flip":
        raw[len(raw) // 2] ^= 1
        digests.write_bytes(raw)
    elif damage == "cut":
        digests.write_bytes(raw[:-9])
    elif damage == "head":
        top.write_text("{")
    elif damage == "lost":
        digests.unlink()
    else:
        known = json.loads(top.read_text())
        known |= {"n_exchanges": 1} if damage == "count" else {"config": {"unheard_of": 1}}
        top.write_text(json.dumps(known))
    with pytest.raises(RecordError):
        load_profiles(tmp_path)


def test_no_folder_is_an_empty_log(tmp_path: Path) -> None:
    """The first run needs no profiles, and asking for them says that there are none."""
    fresh = _fold(_log(0, 9))
    assert not is_kept(tmp_path / "new")
    assert fresh is merge_kept(fresh, tmp_path / "new")
    with pytest.raises(RecordError, match="no profiles here"):
        load_profiles(tmp_path)


def test_a_run_that_dies_leaves_the_old_profiles(tmp_path: Path) -> None:
    """Stopped at any write, the folder holds the old profiles, and the next run tidies up."""
    save_profiles(_fold(_log(0, 50)), tmp_path)
    allowed = [100, 3_000, 6_000]
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from stillwatch.detect import FoldConfig, fold\n"
        "from stillwatch.detect.profiles.keep import load_profiles, save_profiles\n"
        "from stillwatch.errors import EnvironmentUnfitError\n"
        "folder = Path(sys.argv[1]); profiles = load_profiles(folder)\n"
        "for size in map(int, sys.argv[2:]):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        save_profiles(profiles.select(profiles.totals.exchanges > 7), folder)\n"
        "    except EnvironmentUnfitError as error:\n"
        "        print(type(error).__name__)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *map(str, allowed)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == ran.returncode, ran.stderr
    assert ["EnvironmentUnfitError"] * len(allowed) == ran.stdout.split()
    assert pack(_fold(_log(0, 50))) == pack(load_profiles(tmp_path))
    save_profiles(_fold(_log(0, 20)), tmp_path)
    assert 3 == len(_names(tmp_path))
    assert pack(_fold(_log(0, 20))) == pack(load_profiles(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file in the way is the machine's fault, said as such."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="a part of the path is a file"):
        save_profiles(no_profiles(), tmp_path / "file" / "kept")
    with pytest.raises(EnvironmentUnfitError), updating(tmp_path / "file" / "kept"):
        pass


def test_runs_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    """Of two runs that read, add and write, neither loses what the other added."""

    def add(start: int) -> None:
        fresh = _fold(_log(start, start + 20))
        with updating(tmp_path):
            save_profiles(merge_kept(fresh, tmp_path), tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(0, 120, 20)))
    assert pack(_fold(_log(0, 120))) == pack(load_profiles(tmp_path))


def test_accounts_are_forgotten(tmp_path: Path) -> None:
    """Nothing of a forgotten account is left in the folder: no name, no sum, no text."""
    config = FoldConfig(digests_per_account=5)
    save_profiles(_fold(_log(0, 90), config), tmp_path, config=config, marks=Marks(embedder="e"))
    assert 1 == forget_accounts(tmp_path, {"a1", "nobody"})
    rest = [exchange for exchange in _log(0, 90) if exchange.account != "a1"]
    assert pack(_fold(rest, config)) == pack(
        load_profiles(tmp_path, config=config, marks=Marks(embedder="e"))
    )
    assert 3 == len(_names(tmp_path))
    assert "e" == read_head(tmp_path).marks.embedder
    assert 0 == forget_accounts(tmp_path, {"nobody"})
    forget_accounts(tmp_path, {f"a{n}" for n in range(7)})
    assert 0 == read_head(tmp_path).n_accounts
