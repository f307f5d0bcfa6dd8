"""Odd logs get sensible answers: nobody is named for what the log does not hold."""

import numpy as np
import pyarrow as pa
import pytest

from stillwatch.detect import Findings, Profiles, detect, fold
from stillwatch.detect.confirmation.activity import activity_of, background_of, lives_of
from stillwatch.detect.confirmation.lifetimes import joint_switch
from stillwatch.detect.confirmation.principals import Registry
from stillwatch.detect.confirmation.timing import measure_timing, timing_p_value
from stillwatch.detect.discovery.cotraits import find_cogroups
from stillwatch.detect.facts import facts_of
from stillwatch.record.exchange import Exchange, Message, to_batch

WORDS = np.array([f"w{i}" for i in range(4000)])


def _exchanges(n: int, *, accounts: int, **fields: object) -> list[Exchange]:
    """Build questions of random words, dealt to accounts in turn."""
    rng = np.random.default_rng(0)
    asked = [" ".join(WORDS[rng.integers(0, len(WORDS), 12)]) for _ in range(n)]
    defaults = {"messages": None, "account": None, "network_hash": None} | fields
    return [
        Exchange(
            exchange_id=f"x{i}",
            account=defaults["account"] if defaults["account"] is not None else f"a{i % accounts}",
            started_at=1.7e9 + 60.0 * i,
            messages=(Message("user", asked[i]),)
            if defaults["messages"] is None
            else defaults["messages"],
            network_hash=defaults["network_hash"] or f"n{i % accounts}",
            output_tokens=100,
        )
        for i in range(n)
    ]


def _nobody(findings: Findings, *, accounts: int, exchanges: int) -> None:
    """Check that every account is listed and none suspected."""
    assert () == findings.campaigns
    assert accounts == findings.n_accounts
    assert accounts == len(findings.accounts)
    assert exchanges == findings.n_exchanges
    assert all(row.score <= 0.5 for row in findings.accounts)


def _sides(profiles: Profiles) -> None:
    """Ask everything that may be asked of a group, of all accounts at once."""
    everyone = np.arange(profiles.n_accounts)
    facts = facts_of(profiles.accounts, None)
    assert Registry(profiles, facts).describe(everyone).n_accounts == profiles.n_accounts
    tests = measure_timing(
        activity_of(profiles, everyone),
        background_of(profiles),
        lives=lives_of(profiles, facts, everyone),
    )
    assert 0.0 <= timing_p_value((*tests, joint_switch(profiles, everyone))) <= 1.0
    assert all(len(group.accounts) >= 2 for group in find_cogroups(profiles, facts))


ODD = {
    "one exchange": (_exchanges(1, accounts=1), 1, 1),
    "one account": (_exchanges(300, accounts=1), 1, 300),
    "two accounts": (_exchanges(300, accounts=2), 2, 300),
    "no account ids": (_exchanges(200, accounts=1, account=""), 0, 0),
    "no bodies": (_exchanges(900, accounts=90, messages=()), 90, 900),
    "empty questions": (_exchanges(900, accounts=90, messages=(Message("user", ""),)), 90, 900),
    "system turns only": (
        _exchanges(900, accounts=90, messages=(Message("system", "You are brief."),)), 90, 900,
    ),
    "identical questions": (
        _exchanges(
            900, accounts=90, messages=(Message("user", "Write a haiku about the sea at dawn."),)
        ),
        90,
        900,
    ),
    "one network": (_exchanges(900, accounts=90, network_hash="nat"), 90, 900),
    "one exchange an account": (_exchanges(2000, accounts=2000), 2000, 2000),
    "one line of one word": (_exchanges(900, accounts=90, messages=(Message("user", "hi"),)), 90,
                             900),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ODD))
@pytest.mark.parametrize("with_reference", [False, True])
def test_nobody_is_named(name: str, with_reference: bool) -> None:
    """Whatever an odd log lacks or repeats, nobody is named, with a reference or without."""
    rows, accounts, exchanges = ODD[name]
    reference = [to_batch(_exchanges(600, accounts=60))] if with_reference else None
    findings = detect([to_batch(rows)], reference=reference)
    _nobody(findings, accounts=accounts, exchanges=exchanges)


@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_reference_is_no_worse_than_none(name: str) -> None:
    """A reference that holds nothing useful names nobody either."""
    findings = detect([to_batch(_exchanges(600, accounts=60))], reference=[to_batch(ODD[name][0])])
    _nobody(findings, accounts=60, exchanges=600)


@pytest.mark.parametrize("name", list(ODD))
def test_every_side_question_has_an_answer(name: str) -> None:
    """Parties, co-traits and timing answer on any log, and never with an error."""
    _sides(fold([to_batch(ODD[name][0])]))


def test_an_access_log_has_four_columns() -> None:
    """The least that a log may hold: who, when, which exchange; the rest may be absent."""
    rows = to_batch(_exchanges(300, accounts=30)).select(["exchange_id", "account", "started_at"])
    _nobody(detect([rows]), accounts=30, exchanges=300)
    _sides(fold([rows]))


def test_without_bodies_shared_networks_still_show() -> None:
    """A group behind a few networks of its own is found in a log without any text."""
    rows = [
        Exchange(
            exchange_id=f"{i}-{j}",
            account=f"a{i:03}",
            started_at=1.7e9 + 3600.0 * j,
            network_hash=f"rack{(i + j) % 3}" if i < 30 else f"home{i}",
        )
        for i in range(400)
        for j in range(3)
    ]
    groups = find_cogroups(fold([to_batch(rows)]))
    assert [list(range(30))] == [group.accounts.tolist() for group in groups]


def test_all_at_one_moment() -> None:
    """A log without usable times is read, and its timing is not judged."""
    rows = [
        Exchange(exchange_id=f"{i}", account=f"a{i % 20}", started_at=1.7e9) for i in range(200)
    ]
    profiles = fold([to_batch(rows)])
    tests = measure_timing(activity_of(profiles, np.arange(20)), background_of(profiles))
    assert [None] * 4 == [test.p_value for test in tests]
    _nobody(detect([to_batch(rows)]), accounts=20, exchanges=200)


def test_times_that_are_no_times() -> None:
    """Times that are NaN are nobody's, and the rest of the log is read."""
    batch = to_batch(_exchanges(300, accounts=30))
    times = batch["started_at"].to_numpy(zero_copy_only=False).copy()
    times[::7] = np.nan
    place = batch.schema.get_field_index("started_at")
    holed = batch.set_column(place, batch.schema.field(place), pa.array(times, from_pandas=False))
    profiles = fold([holed])
    assert 300 == profiles.n_exchanges
    activity = activity_of(profiles, np.arange(30))
    assert np.isfinite(activity.started_at).all()


@pytest.mark.slow
def test_many_accounts_of_one_exchange() -> None:
    """Thirty thousand accounts that asked once each: nobody named, memory in proportion."""
    rows = _exchanges(30_000, accounts=30_000)
    batches = [to_batch(rows[i : i + 8192]) for i in range(0, len(rows), 8192)]
    findings = detect(batches)
    _nobody(findings, accounts=30_000, exchanges=30_000)
