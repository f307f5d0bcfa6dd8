"""The log as codes."""

import numpy as np
import pyarrow as pa

from stillwatch.record.exchange import Exchange, Message, to_batch
from yardstick.observed import observe


def test_rows_and_accounts(log) -> None:
    """History comes first and is not live; accounts are sorted and number every row."""
    live, history, table, names = log
    observed = observe(live, history, accounts=table)
    assert 120 == observed.n_accounts
    assert sorted(observed.accounts.to_pylist()) == observed.accounts.to_pylist()
    assert 120 * 12 == observed.live.sum()
    assert not observed.live[: 100 * 12].any()
    web = np.array([i for i, n in enumerate(observed.accounts.to_pylist()) if n in names])
    assert 20 * 12 == len(observed.rows_of(web))


def test_traits() -> None:
    """Numbers are masked in openings, absent values have no code, equal values have one."""
    rows = [
        Exchange(
            exchange_id="1",
            account="b",
            started_at=1.0,
            messages=(Message("user", "Add 12 and 3 to 5 then go on and stop"),),
        ),
        Exchange(
            exchange_id="2",
            account="a",
            started_at=2.0,
            messages=(
                Message("system", "Be brief."),
                Message("user", "add 7 and 44 to 9 then go home now"),
            ),
        ),
        Exchange(exchange_id="3", account="c", started_at=3.0, tools_hash="t"),
    ]
    observed = observe([to_batch(rows)])
    assert ["a", "b", "c"] == observed.accounts.to_pylist()
    assert [1, 0, 2] == observed.account.tolist()
    opening, system = observed.traits["opening"], observed.traits["system"]
    assert opening[0] == opening[1] >= 0
    assert -1 == opening[2]
    assert [-1, 0, -1] == system.tolist()
    assert [-1, -1, 0] == observed.traits["tools"].tolist()
    assert "Add 12 and 3 to 5 then go on and stop" == observed.question[0].as_py()


def test_account_traits_reach_rows() -> None:
    """What the accounts table knows stands in every row of the account; strangers have none."""
    rows = [Exchange(exchange_id=str(i), account=a, started_at=0.0) for i, a in enumerate("xyzx")]
    table = pa.table({"account": ["x", "y"], "payment_hash": ["card", None]})
    observed = observe([to_batch(rows)], accounts=table)
    assert [0, -1, -1, 0] == observed.traits["payment"].tolist()
