"""However a log is split, ordered and merged, and however little memory there is: one result."""

import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.detect import FoldConfig, Profiles, merge, no_profiles
from stillwatch.detect.profiles.fold import Folding, fold
from stillwatch.detect.profiles.levels import at_level, level_of, levels_of
from stillwatch.detect.profiles.merge import merge_all
from stillwatch.detect.profiles.profile import Digests
from stillwatch.record.exchange import Exchange, Message, to_batch
from stillwatch.text.ragged import Ragged

WORDS = ["please", "convert", "the", "date", "Answer", "17", "into", "number", "4", "json", "?"]
#: From level 0 for every log here to level 2 for every log.
MEMORIES = (1, 40_000, 100_000, 170_000, 220_000, 2**31)
MEMORY = st.sampled_from(MEMORIES)
CUTS = st.lists(st.integers(0, 150), max_size=4).map(sorted)


def _exchange(rng: np.random.Generator, number: int) -> Exchange:
    system = Message("system", " ".join(rng.choice(WORDS, 14)))
    asked = Message("user", "\n".join(" ".join(rng.choice(WORDS, 9)) for _ in range(5)))
    return Exchange(
        exchange_id=f"x{number}",
        account=str(rng.choice(["a", "b", "c", "", "d"], p=[0.6, 0.2, 0.1, 0.05, 0.05])),
        started_at=float(rng.integers(0, 400_000)),
        messages=(system, asked) if rng.random() < 0.5 else (asked,),
        input_tokens=int(rng.integers(0, 99)) or None,
        output_tokens=int(rng.integers(0, 99)),
        status=int(rng.choice([200, 429])),
        user_agent=str(rng.choice(["x", "y"])),
        org="o" if rng.random() < 0.1 else None,
    )


def _log(n: int) -> list[Exchange]:
    rng = np.random.default_rng(5)
    return [_exchange(rng, number) for number in range(n)]


LOG = _log(150)


def plain(profiles: Profiles) -> list[object]:
    """Profiles as plain values, to be compared."""
    columns = [profiles.level, profiles.accounts.to_pylist()]
    columns += [column.tolist() for column in profiles.totals]
    for column in profiles.digests:
        if isinstance(column, Ragged):
            columns += [column.values.tolist(), column.offsets.tolist()]
        elif isinstance(column, np.ndarray):
            columns.append(column.tolist())
        else:
            columns.append(column.to_pylist())
    return columns


def _fold(rows: list[Exchange], config: FoldConfig) -> Profiles:
    return fold([to_batch(rows)] if rows else [], config)


@settings(max_examples=25, deadline=None)
@given(MEMORY, CUTS, st.randoms(use_true_random=False))
def test_any_split_in_any_order(memory: int, cuts: list[int], random: object) -> None:
    """Folded in parts, in any order, merged pairwise or at once: the same at every level."""
    config = FoldConfig(memory_bytes=memory)
    rows = LOG.copy()
    random.shuffle(rows)
    bounds = [0, *cuts, len(rows)]
    parts = [_fold(rows[a:b], config) for a, b in itertools.pairwise(bounds)]
    whole = plain(_fold(LOG, config))
    assert whole == plain(merge_all(parts, config))
    one_by_one = no_profiles()
    for part in parts:
        one_by_one = merge(part, one_by_one, config)
    assert whole == plain(one_by_one)


@settings(max_examples=20, deadline=None)
@given(MEMORY, st.integers(0, 150), st.integers(0, 150))
def test_merge_is_associative_and_commutative(memory: int, one: int, two: int) -> None:
    """The two laws, and the neutral element, as such."""
    config, (low, high) = FoldConfig(memory_bytes=memory), sorted((one, two))
    a, b, c = (_fold(part, config) for part in (LOG[:low], LOG[low:high], LOG[high:]))
    left = merge(merge(a, b, config), c, config)
    assert plain(left) == plain(merge(a, merge(b, c, config), config))
    assert plain(merge(a, b, config)) == plain(merge(b, a, config))
    assert plain(left) == plain(merge(no_profiles(), left, config))


@settings(max_examples=12, deadline=None)
@given(MEMORY, CUTS, st.integers(9, 60))
def test_batches_do_not_show(memory: int, cuts: list[int], size: int) -> None:
    """One fold over many batches, looked at on the way, gives what one batch gives."""
    config = FoldConfig(memory_bytes=memory)
    folding, seen = Folding(config), []
    for start in range(0, len(LOG), size):
        folding.update(to_batch(LOG[start : start + size]))
        if start in cuts:
            now = folding.profiles()
            seen.append((now, plain(now), start + size))
    assert plain(_fold(LOG, config)) == plain(folding.profiles())
    for now, then, end in seen:
        assert then == plain(now)
        assert then == plain(_fold(LOG[:end], config))


def test_every_level_is_reached() -> None:
    """The memories above make all three levels; the log's digests then fit, but for the last."""
    reached = set()
    for memory in MEMORIES:
        config = FoldConfig(memory_bytes=memory)
        profiles = _fold(LOG, config)
        reached.add(profiles.level)
        if profiles.level < 2:
            assert _bytes(profiles.digests) <= memory
    assert {0, 1, 2} == reached


def _bytes(digests: Digests) -> int:
    total = 0
    for column in digests:
        if isinstance(column, Ragged):
            total += column.values.nbytes + column.offsets.nbytes
        elif isinstance(column, np.ndarray):
            total += column.nbytes
        else:
            total += sum(buffer.size for buffer in column.buffers() if buffer)
    return total


def test_levels_are_nested() -> None:
    """A coarser level is what is left of a finer one, and never turns finer again."""
    fine = _fold(LOG, FoldConfig())
    for level, memory in ((1, 170_000), (2, 1)):
        config = FoldConfig(memory_bytes=memory)
        folded = _fold(LOG, config)
        assert level == folded.level
        assert plain(folded) == plain(at_level(fine, level))
        assert plain(folded) == plain(at_level(at_level(fine, 1), level))
        assert folded is at_level(folded, 0)


@given(st.lists(st.integers(1, 1000), max_size=8), st.lists(st.integers(0, 1000), min_size=8))
def test_a_longer_log_is_never_finer(exchanges: list[int], more: list[int]) -> None:
    """The level never falls when exchanges or accounts are added."""
    config = FoldConfig(memory_bytes=300_000)
    before = np.array(exchanges, np.int64)
    after = np.array([n + m for n, m in zip(exchanges, more, strict=False)] + more, np.int64)
    assert level_of(before, config) <= level_of(after, config)


def test_levels_follow_the_configuration() -> None:
    """No coarser level keeps more than was asked for at the finest."""
    levels = levels_of(FoldConfig(digests_per_account=30, words_kept=10))
    assert [30, 30, 20] == [level.digests for level in levels]
    assert [10, 10, 10] == [level.words for level in levels]


def test_one_exchange_twice_is_in_no_order() -> None:
    """Two exchanges of one id are told apart by what they hold, not by which came first."""
    rows = [
        Exchange(exchange_id="x", account="a", started_at=1.0, org=org, messages=(asked,))
        for org in ("p", "q", None)
        for asked in (Message("user", "one"), Message("user", "two"))
    ]
    config = FoldConfig(digests_per_account=4)
    assert plain(_fold(rows, config)) == plain(_fold(rows[::-1], config))


def test_how_columns_are_stored_does_not_show() -> None:
    """Large, dictionary-encoded and sliced columns, and a log in chunks, fold alike."""
    batch, expected = to_batch(LOG), plain(_fold(LOG, FoldConfig()))
    table = pa.Table.from_batches([batch])
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        fields = [
            field.with_type(kind) if pa.types.is_string(field.type) else field
            for field in batch.schema
        ]
        assert expected == plain(fold(table.cast(pa.schema(fields)).to_batches()))
    twice = pa.Table.from_batches([batch, batch]).combine_chunks().to_batches()[0]
    assert expected == plain(fold([twice.slice(70, 150 - 70), twice.slice(150, 70)]))
