"""What it costs a copier not to be seen: the price of each level of evasion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from stillwatch.siege.traffic.scenarios import Traffic


class Cost(NamedTuple):
    """What a campaign spends.

    Attributes:
        accounts: opened over the whole time (count).
        exchanges_per_harvest: exchanges carried for each one that is worth training on.
        tokens_per_harvest: tokens carried, both ways, for each harvest exchange.
        networks: it came from (count).
        payment_marks: it paid with (count).
    """

    accounts: int
    exchanges_per_harvest: float
    tokens_per_harvest: float
    networks: int
    payment_marks: int


def evasion_cost(traffic: Traffic) -> Cost:
    """Add up what the campaigns of a scenario spend.

    Args:
        traffic: a scenario with a campaign.

    Returns:
        The cost; NaN ratios without harvest.
    """
    truth = traffic.truth
    place, tokens = 0, 0
    networks: set[str] = set()
    for batch in traffic.batches():
        rows = slice(place, place + batch.num_rows)
        place += batch.num_rows
        mine = truth.campaign[rows] >= 0
        own = batch.take(np.flatnonzero(mine))
        counted = pc.add(own["input_tokens"], own["output_tokens"])
        tokens += pc.sum(counted).as_py() or 0
        networks |= set(own["network_hash"].to_pylist())
    harvest = int((truth.kind == 1).sum())
    members = truth.campaign_members()
    table = traffic.accounts_table.rows
    ratio = 1.0 / harvest if harvest else float("nan")
    return Cost(
        accounts=len(members),
        exchanges_per_harvest=float((truth.campaign >= 0).sum()) * ratio,
        tokens_per_harvest=tokens * ratio,
        networks=len(networks),
        payment_marks=len({table[name].payment_hash for name in members} - {None}),
    )
