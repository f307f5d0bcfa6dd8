"""The makers' truth in the benchmark's numbers."""

import numpy as np
import pyarrow as pa

from stillwatch.logs.accounts import AccountRow, AccountTable
from stillwatch.record.exchange import Exchange, to_batch
from stillwatch.siege.traffic.scenarios import Truth
from yardstick.observed import observe
from yardstick.score import COVER, HARVEST, HONEST
from yardstick.worlds import number_truth, table_of


def test_truth_is_put_in_order() -> None:
    """Rows and accounts of the log find their truth by id; history is honest."""
    asked = [("c", "x1"), ("a", "x2"), ("c", "x3")]
    live = [to_batch(Exchange(exchange_id=x, account=a, started_at=1.0) for a, x in asked)]
    past = [to_batch([Exchange(exchange_id="x0", account="b", started_at=0.0)])]
    observed = observe(live, past, has_traits=False)
    truth = number_truth(
        Truth(
            exchange_ids=np.array(["x3", "x2", "x1"]),
            kind=np.array([2, 0, 1], dtype=np.int8),
            campaign=np.array([0, -1, 0]),
            accounts=np.array(["c", "b", "a"]),
            roles=np.array(["campaign", "agent", "person"]),
            groups=np.array(["web", "tool", ""]),
            campaigns=np.array([0, -1, -1]),
        ),
        observed,
    )
    assert [HONEST, HARVEST, HONEST, COVER] == truth.kind.tolist()
    assert [-1, 0, -1, 0] == truth.row_campaign.tolist()
    assert ["person", "agent", "campaign"] == list(truth.role)
    assert ["", "tool", "web"] == list(truth.group)
    assert [-1, -1, 0] == truth.campaign.tolist()
    assert {} == observed.traits


def test_accounts_table() -> None:
    """Every account of the side table is a row with its columns."""
    table = table_of(AccountTable({"a": AccountRow(account="a", payment_hash="card")}))
    assert isinstance(table, pa.Table)
    assert [{"account": "a", "payment_hash": "card"}] == table.select([
        "account", "payment_hash",
    ]).to_pylist()  # fmt: skip
