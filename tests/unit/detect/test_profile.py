"""Profiles fold and merge."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect import FoldConfig, Profiles, fold, merge, no_profiles
from stillwatch.errors import InvalidInputError
from stillwatch.record.exchange import Exchange, Message, to_batch
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
    return merge(first, second, digests_per_account=3)


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
