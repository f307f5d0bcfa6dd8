"""Profiles fold and merge."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import FoldConfig, Profiles, fold, merge, no_profiles
from stillwatch.detect.evidence.flags import FLAGS
from stillwatch.detect.profiles.levels import at_level
from stillwatch.detect.profiles.tape import TapeRows
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange, Message, to_batch
from stillwatch.text.features import text_features
from stillwatch.text.ragged import Ragged

EXCHANGES = st.lists(
    st.builds(
        lambda number, account, text, at: Exchange(
            exchange_id=f"x{number}",
            account=account,
            started_at=float(at),
            messages=(Message("user", text),),
            output_tokens=number % 7,
            status=200 if number % 5 else 429,
        ),
        st.integers(0, 10**9),
        st.sampled_from(["", "a", "b", "c"]),
        st.text("abc 1\n", max_size=20),
        st.integers(0, 50),
    ),
    max_size=14,
    unique_by=lambda exchange: exchange.exchange_id,
)


def _plain(profiles: Profiles) -> list[object]:
    columns = [profiles.accounts.to_pylist(), *(c.tolist() for c in profiles.totals)]
    for column in profiles.digests:
        if isinstance(column, Ragged):
            columns += [column.values.tolist(), column.offsets.tolist()]
        elif isinstance(column, np.ndarray):
            columns.append(column.tolist())
        else:
            columns.append(column.to_pylist())
    return columns


def _fold(exchanges: list[Exchange]) -> Profiles:
    return fold([to_batch(exchanges)], FoldConfig(digests_per_account=3))


def _merge(first: Profiles, second: Profiles) -> Profiles:
    return merge(first, second, FoldConfig(digests_per_account=3))


@given(EXCHANGES, st.integers(0, 14), st.integers(0, 14))
def test_merge_is_associative_commutative_and_like_folding_once(
    exchanges: list[Exchange], one: int, two: int
) -> None:
    """Any split of a log, merged in any order, gives what one fold gives."""
    low, high = sorted((one, two))
    a, b, c = (_fold(part) for part in (exchanges[:low], exchanges[low:high], exchanges[high:]))
    whole = _plain(_fold(exchanges))
    assert whole == _plain(_merge(_merge(a, b), c))
    assert whole == _plain(_merge(a, _merge(b, c)))
    assert whole == _plain(_merge(c, _merge(b, a)))
    assert whole == _plain(_fold(exchanges[::-1]))


@given(EXCHANGES)
def test_empty_profiles_change_nothing(exchanges: list[Exchange]) -> None:
    """The profiles of an empty log are the neutral element."""
    some = _fold(exchanges)
    assert _plain(some) == _plain(_merge(some, no_profiles()))
    assert _plain(some) == _plain(_merge(no_profiles(), some))


def _said(*turns: tuple[str, str], **fields: object) -> Exchange:
    messages = tuple(Message(role, text) for role, text in turns)
    return Exchange(exchange_id="x", account="a", started_at=1.0, messages=messages, **fields)


def test_last_user_turn_is_the_question() -> None:
    """Only the last user turn is read; earlier turns and answers are not."""
    long = _said(("user", "before"), ("assistant", "well"), ("user", "and now this"))
    short = _said(("user", "and now this"))
    assert _fold([long]).digests.text.tolist() == _fold([short]).digests.text.tolist()
    assert ["and now this"] == _fold([long]).digests.excerpt.to_pylist()


def test_system_turns_are_joined() -> None:
    """Two system turns hash as their joined text, and no system turn as 0."""
    two = _fold([_said(("system", "be"), ("system", "kind"), ("user", "q"))]).digests.system
    one = _fold([_said(("system", "be\nkind"), ("user", "q"))]).digests.system
    assert one.tolist() == two.tolist()
    assert [0] == _fold([_said(("user", "q"))]).digests.system.tolist()


def test_a_long_system_prompt_does_not_hide_the_question() -> None:
    """Wording is found in the system prompt and in the question, each within its own window."""
    template = "act as a patient teacher and work through the item below in full"
    rules = " ".join(f"rule{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(150))
    alone = set(fold([to_batch([_said(("user", template))])]).digests.shingles.values.tolist())
    long = fold([to_batch([_said(("system", rules), ("user", template))])])
    moved = fold([to_batch([_said(("system", template), ("user", "12 times 7"))])])
    assert alone <= set(long.digests.shingles.values.tolist())
    assert alone <= set(moved.digests.shingles.values.tolist())


def test_what_a_wall_refused_is_left_out() -> None:
    """A refused question is asked again by another member, which must not look like a revisit."""
    rows = [
        Exchange(exchange_id=str(i), account="a", started_at=1.0, action=action)
        for i, action in enumerate(["allow", "throttle", "block", "watermark"])
    ]
    assert 2 == fold([to_batch(rows)]).n_exchanges


def test_no_text_is_kept_when_none_is_wanted() -> None:
    """With excerpts off the profiles hold hashes only."""
    batch = to_batch([_said(("user", "a secret of mine"))])
    assert [""] == fold([batch], FoldConfig(excerpt_chars=0)).digests.excerpt.to_pylist()


def test_totals() -> None:
    """Sums count every exchange, kept or not, and refused ones apart."""
    rows = [
        Exchange(exchange_id=str(i), account="a", started_at=float(i), output_tokens=2, status=s)
        for i, s in enumerate([200, 429, 200, 200, 403])
    ]
    totals = _fold(rows).totals
    assert (5, 10, 2) == (totals.exchanges[0], totals.output_tokens[0], totals.refused[0])
    assert (0.0, 4.0) == (totals.first_seen[0], totals.last_seen[0])
    assert 3 == len(_fold(rows).digests.account)


def test_hours_are_counted_in_utc() -> None:
    """Exchanges are counted by the hour of their day; one without a time by none."""
    at = [0.0, 3599.0, 3600.0, 86_400.0 * 9 + 23.5 * 3600, -1800.0]
    rows = [Exchange(exchange_id=str(t), account="a", started_at=t) for t in at]
    hours = _fold(rows).totals.hours[0]
    assert {0: 2, 1: 1, 23: 2} == {int(hour): int(hours[hour]) for hour in np.flatnonzero(hours)}
    nowhen = pa.record_batch({
        "exchange_id": ["x", "y"],
        "account": ["a", "a"],
        "started_at": pa.array([None, 7.0]),
    })
    totals = fold([nowhen]).totals
    assert (2, 1, 7.0, 7.0) == (
        totals.exchanges[0], totals.hours.sum(), totals.first_seen[0], totals.last_seen[0],
    )  # fmt: skip


def test_features_and_flags_are_summed() -> None:
    """The kernel is the sum of the questions' features, kept or not, and flags are counted."""
    texts = [f"Think step by step: what is {i} + 1?" for i in range(5)]
    rows = [
        Exchange(exchange_id=text, account="a", started_at=1.0, messages=(Message("user", text),))
        for text in texts
    ]
    totals = _fold(rows).totals
    assert text_features(texts).sum(axis=0).tolist() == totals.kernel[0].tolist()
    assert 5 == totals.flags[0, FLAGS.index("step_by_step")]
    embedded = fold(
        [to_batch(rows)], embedder=lambda asked: np.eye(len(asked), 9, dtype=np.float32)
    )
    assert totals.kernel.shape == embedded.totals.kernel.shape
    assert totals.kernel.tolist() != embedded.totals.kernel.tolist()


def test_a_shingle_counts_once_a_row() -> None:
    """What the question and its system prompt share stands among the question's."""
    text = "one two three four five six seven"
    both = _fold([_said(("system", text + " eight"), ("user", text))]).digests
    alone = _fold([_said(("user", text))]).digests
    assert 3 == both.n_asked[0] == alone.n_asked[0]
    assert alone.shingles.values.tolist() == both.shingles.values[:3].tolist()
    assert 4 == len(set(both.shingles.values.tolist())) == len(both.shingles.values)


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{"role": "assistant", "content": "hello", "extra": None}],
        [{"role": "user", "content": None, "extra": None}],
        [{"role": None, "content": "hello", "extra": None}],
    ],
)
def test_a_row_without_a_question(messages: list[dict[str, str]] | None) -> None:
    """A conversation may be missing, empty or one-sided: its neighbours keep their questions."""
    batch = to_batch([_said(("user", "here")), _said(("user", "there"))])
    column = pa.array([batch["messages"][0].as_py(), messages, batch["messages"][1].as_py()],
                      batch.schema.field("messages").type)  # fmt: skip
    three = pa.record_batch({
        "exchange_id": ["x", "y", "z"],
        "account": ["a", "a", "a"],
        "started_at": [1.0, 2.0, 3.0],
        "messages": column,
    })
    digests = fold([three]).digests
    assert [0, 1, 1] == sorted(digests.words.lengths.tolist())
    assert ["", "here", "there"] == sorted(digests.excerpt.to_pylist())


class _Heard:
    """A tape that remembers."""

    def __init__(self) -> None:
        self.rows: list[TapeRows] = []

    def write(self, rows: TapeRows) -> None:
        """Remember."""
        self.rows.append(rows)


def test_the_tape_hears_every_exchange() -> None:
    """All exchanges of known accounts go on the tape, at the coarsest resolution, digest or not."""
    rows = [
        Exchange(
            exchange_id=f"x{i}",
            account="a" if i % 7 else "",
            started_at=float(i),
            output_tokens=i,
            messages=(Message("system", "s " * 40), Message("user", f"{'abcdefgh'[i % 8]} " * 50)),
        )
        for i in range(60)
    ]
    tape = _Heard()
    profiles = fold([to_batch(rows)], FoldConfig(digests_per_account=4), tape=tape)
    heard = [i for part in tape.rows for i in part.exchange_id.to_pylist()]
    assert [row.exchange_id for row in rows if row.account] == heard
    assert profiles.n_exchanges == len(heard)
    tokens = sum(int(part.output_tokens.sum()) for part in tape.rows)
    assert int(profiles.totals.output_tokens[0]) == tokens
    coarse = at_level(fold([to_batch(rows)]), 2).digests
    kept = {tuple(coarse.shingles.take(np.array([i])).values) for i in range(len(coarse.key))}
    said = Ragged.concatenate([part.shingles for part in tape.rows])
    told = {tuple(said.take(np.array([i])).values) for i in range(len(said))}
    assert kept <= told


def test_columns_may_be_absent() -> None:
    """A log of the three required columns folds; one without accounts is refused by name."""
    batch = pa.record_batch({"exchange_id": ["x"], "account": ["a"], "started_at": [1.0]})
    assert 1 == fold([batch]).n_exchanges
    with pytest.raises(InvalidInputError, match="account"):
        fold([pa.record_batch({"exchange_id": ["x"], "started_at": [1.0]})])


def test_exchanges_without_account_are_left_out() -> None:
    """Nothing can be said about who asked, so nothing is kept."""
    batch = to_batch([Exchange(exchange_id="x", account="", started_at=1.0)])
    assert 0 == fold([batch]).n_accounts
