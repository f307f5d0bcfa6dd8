"""Made worlds, in the benchmark's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.logs.accounts import ACCOUNTS_SCHEMA, AccountTable
from stillwatch.siege.traffic import audit, scenarios
from yardstick.observed import Ints, Observed, observe
from yardstick.plan import Cell
from yardstick.score import COVER, HARVEST, HONEST, Truth, World

#: The makers' kinds, in their order.
_KINDS = np.array([HONEST, HARVEST, COVER])
#: Worlds of more honest accounts are written anew for each reading instead of held.
_HELD = 20_000


def make_world(cell: Cell, *, seed: int, families: str, data: Path) -> World:
    """Build the traffic of one cell and seed.

    Args:
        cell: what kind of world.
        seed: which one of the kind.
        families: tuning or report.
        data: folder with the pools.

    Returns:
        The world, read into memory.
    """
    traffic = scenarios.build_traffic(
        scenarios.Scenario(
            name=cell.name,
            evasion=cell.evasion,
            seed=seed,
            n_honest=cell.n_honest,
            n_campaign=cell.n_campaign,
            share=cell.share,
            families=families,
            dilution=cell.dilution,
            partition=cell.partition,
            n_campaigns=cell.n_campaigns,
            tainted=cell.taint,
        ),
        data,
    )
    live: Iterable[pa.RecordBatch] = _Again(traffic.batches)
    history: Iterable[pa.RecordBatch] = _Again(traffic.history)
    accounts, is_large = table_of(traffic.accounts_table), cell.n_honest > _HELD
    if not is_large:
        live, history = list(live), list(history)
    past = () if is_large else history
    observed = observe(live, past, accounts=accounts, has_traits=cell.lists_baselines)
    return World(
        live=live,
        history=history,
        accounts=accounts,
        table=traffic.accounts_table,
        observed=observed,
        truth=number_truth(traffic.truth, observed),
        trivial=_trivial(traffic) if cell.part == "evasion" else {},
    )


class _Again:
    """Batches that are made anew whenever they are read, for logs that no memory holds.

    Args:
        make: makes them.
    """

    def __init__(self, make: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._make()


def table_of(accounts: AccountTable) -> pa.Table:
    """Lay the accounts side table out in columns.

    Args:
        accounts: by account.

    Returns:
        One row an account.
    """
    rows = [msgspec.structs.asdict(row) for row in accounts.rows.values()]
    return pa.Table.from_pylist(rows, schema=ACCOUNTS_SCHEMA)


def number_truth(truth: scenarios.Truth, observed: Observed) -> Truth:
    """Put the makers' truth into the order of the benchmark's rows and accounts.

    Args:
        truth: by ids.
        observed: the same log, numbered.

    Returns:
        The truth by numbers; history is honest.
    """
    place = _places(observed.exchange_id, truth.exchange_ids)
    known = (place >= 0) & observed.live
    kind = np.where(known, _KINDS[truth.kind[place]], HONEST)
    who = _places(observed.accounts, truth.accounts)
    return Truth(
        role=np.where(who >= 0, truth.roles[who], "person").tolist(),
        group=np.where(who >= 0, truth.groups[who], "").tolist(),
        campaign=np.where(who >= 0, truth.campaigns[who], -1),
        kind=kind,
        row_campaign=np.where(known, truth.campaign[place], -1),
        live=observed.live,
        tokens=observed.output_tokens,
    )


def _trivial(traffic: scenarios.Traffic) -> dict[str, float]:
    """Give the AUC of each trivial field in the direction that tells more."""
    fields = audit.trivial_fields(traffic)
    return {name: max(auc, 1 - auc) for name, auc in fields.items() if np.isfinite(auc)}


def _places(wanted: pa.Array, names: np.ndarray) -> Ints:
    """Find each wanted name among names; -1 where it is not."""
    found = pc.index_in(wanted, value_set=pa.array(names.tolist(), wanted.type))
    places: Ints = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return places
