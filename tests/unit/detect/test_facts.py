"""Facts: the accounts table beside the accounts of a log."""

import math

import numpy as np
import pyarrow as pa

from stillwatch.detect.discovery.marks import marks_of
from stillwatch.detect.facts import facts_of, hash_texts, no_facts
from stillwatch.detect.profiles.fold import fold
from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch


def _table(*rows: AccountRow) -> AccountTable:
    return AccountTable({row.account: row for row in rows})


def test_facts_stand_beside_the_accounts() -> None:
    """Whatever the table's order, a fact lies where its account lies."""
    table = _table(
        AccountRow(account="b", payment_hash="card", kyc_level=2, created_at=7.0),
        AccountRow(account="a", org="lab", tags=("vip", "banned_at=12.5")),
        AccountRow(account="never seen", org="other"),
    )
    facts = facts_of(pa.array(["a", "b", "c"], pa.large_string()), table)
    assert [True, True, False] == facts.known.tolist()
    assert hash_texts(["lab", None, None]).tolist() == facts.org.tolist()
    assert hash_texts([None, "card", ""]).tolist() == facts.payment.tolist()
    assert [-1, 2, -1] == facts.kyc_level.tolist()
    assert 7.0 == facts.created_at[1]
    assert 12.5 == facts.closed_at[0]
    assert math.isnan(facts.closed_at[1])
    assert math.isnan(facts.created_at[2])


def test_no_table_is_no_facts() -> None:
    """Without a table, or with an empty one, nothing is known of anybody."""
    accounts = pa.array(["a", "b"], pa.large_string())
    for facts in (facts_of(accounts, None), facts_of(accounts, AccountTable({})), no_facts(2)):
        assert 2 == facts.n_accounts
        assert {0.0} == set(facts.coverage().values())


def test_coverage_says_what_is_missing() -> None:
    """Each fact's share of known accounts is stated."""
    table = _table(AccountRow(account="a", org="x"), AccountRow(account="b"))
    coverage = facts_of(pa.array(["a", "b", "c", "d"]), table).coverage()
    assert 0.5 == coverage["known"]
    assert 0.25 == coverage["org"]
    assert 0.0 == coverage["payment"]


def test_a_tag_that_is_no_time_is_no_time() -> None:
    """A closing time that cannot be read is left out."""
    table = _table(AccountRow(account="a", tags=("banned_at=yesterday",)))
    assert math.isnan(facts_of(pa.array(["a"]), table).closed_at[0])


def test_select_follows_the_accounts() -> None:
    """Facts and profiles are cut by the same mask."""
    table = _table(AccountRow(account="a", org="x"), AccountRow(account="b", org="y"))
    facts = facts_of(pa.array(["a", "b"]), table)
    assert hash_texts(["y"]).tolist() == facts.select(np.array([False, True])).org.tolist()


def test_sign_up_networks_compare_with_those_of_the_log() -> None:
    """The same network has the same hash in the table and in the log."""
    rows = [Exchange(exchange_id="1", account="a", started_at=0.0, network_hash="n1")]
    profiles = fold([to_batch(rows)])
    table = _table(AccountRow(account="a", signup_network_hash="n1"))
    facts = facts_of(profiles.accounts, table)
    assert profiles.digests.network[0] == facts.signup_network[0]


def test_marks_count_accounts_not_exchanges() -> None:
    """A value carried in ten exchanges of two accounts has two users."""
    rows = [
        Exchange(exchange_id=str(i), account="ab"[i % 2], started_at=float(i), network_hash="n")
        for i in range(10)
    ]
    marks = marks_of(fold([to_batch(rows)]))
    assert [2] == marks["network"].users.tolist()
    assert [0, 1] == marks["network"].account.tolist()
    assert "payment" not in marks
    assert "user agent" not in marks
    assert [1] == marks["network"].of(np.array([1])).account.tolist()
