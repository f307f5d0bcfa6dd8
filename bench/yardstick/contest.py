"""One world, every method: rows of figures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from baselines import cotrait, group_by, mmd_window, synchrotrap
from stillwatch.detect import fold, vet
from stillwatch.detect.profiles.levels import at_level
from yardstick.alone import count_alone
from yardstick.curve import Point, trace
from yardstick.observed import Observed
from yardstick.ours import Named, find_first_alarm, name_groups
from yardstick.plan import Cell
from yardstick.score import (
    HARVEST,
    Group,
    Truth,
    World,
    best_cut,
    false_groups,
    main_role,
    score_groups,
)

_T = TypeVar("_T")
#: Nominal false discovery rates, and the rates that a baseline's best threshold may reach.
LEVELS = (0.01, 0.1)


def run_world(world: World, cell: Cell, *, seed: int) -> dict[str, Any]:
    """Run every method on one world.

    Args:
        world: the log and its truth.
        cell: what kind of world it is.
        seed: of the world, and of the window test's draws.

    Returns:
        Plain data, a line of the ledger.
    """
    begun = time.process_time()
    profiles = at_level(fold(world.live), cell.resolution)
    history = at_level(fold(world.history), cell.resolution) if cell.has_reference else None
    reference = vet(history).profiles if history else None  # searched first, as by the command
    fold_s = time.process_time() - begun
    told = list[dict[str, Any]]()
    rows, p_values, curves = [], list[float](), dict[str, dict[str, list[Point]]]()
    for level in LEVELS:
        named = name_groups(profiles, reference, world.observed, table=world.table, fdr=level)
        rows.append(
            _row(("detect", "nominal", level), named.groups, world, cpu_s=named.cpu_s + fold_s)
        )
        p_values, told = named.p_values, describe(named, world.truth)
    first = None
    if cell.finds_first and cell.n_campaign:
        alarm = find_first_alarm(world, reference)
        first = alarm._asdict()
    if cell.lists_baselines:
        for found in _baselines(world, seed=seed):
            rows += _choices(found, world)
            curves[found.method] = {
                name: trace(groups, world.truth) for name, groups in found.settings.items()
            }
    return {
        "cell": cell._asdict(),
        "seed": seed,
        "rows": rows,
        "curves": curves,
        "named": told,
        "trivial": world.trivial,
        "p_values": p_values,
        "first": first,
        "price": price_of(world),
        "alone": count_alone(profiles, reference, world, seed=seed) if reference else None,
        "days": float(np.ptp(world.observed.started_at[world.truth.live])) / 86_400,
        "n_exchanges": int(world.truth.live.sum()),
        "n_accounts": world.observed.n_accounts,
    }


class _Found(NamedTuple):
    """What a baseline gave, by setting; `published` is the one its source uses."""

    method: str
    settings: dict[str, list[Group]]
    published: str
    cpu_s: float


def _baselines(world: World, *, seed: int) -> Iterator[_Found]:
    observed, only = world.observed, group_by.PUBLISHED
    for trait in observed.traits:
        groups, cpu_s = _timed(partial(group_by.find_groups, observed, trait))
        yield _Found(f"GROUP BY {trait}", {only: groups}, only, cpu_s)
    found, cpu_s = _timed(partial(synchrotrap.find_groups, observed))
    yield _Found("SynchroTrap-like", found, synchrotrap.PUBLISHED, cpu_s)
    found, cpu_s = _timed(partial(cotrait.find_groups, observed))
    yield _Found("co-trait network", found, cotrait.PUBLISHED, cpu_s)
    only, rng = mmd_window.PUBLISHED, np.random.default_rng(seed)
    test, made_s = _timed(partial(mmd_window.WindowTest, observed, rng=rng))
    groups, cpu_s = _timed(partial(mmd_window.account_groups, observed, test))
    yield _Found("MMD window, per account", {only: groups}, only, made_s + cpu_s)
    told = true_groups(observed, world.truth, rng)
    groups, cpu_s = _timed(partial(mmd_window.told_groups, observed, test, told))
    yield _Found("MMD window, told the groups", {only: groups}, only, made_s + cpu_s)


def true_groups(observed: Observed, truth: Truth, rng: np.random.Generator) -> list[np.ndarray]:
    """List the groups that really are: campaigns, look-alikes, and persons at random.

    Args:
        observed: the log.
        truth: of it.
        rng: shares persons out into groups of 20.

    Returns:
        Account numbers of each group.
    """
    live = np.unique(observed.account[observed.live])
    names, roles = np.array(truth.group)[live], np.array(truth.role)[live]
    groups = [live[names == name] for name in np.unique(names[names != ""])]
    persons = rng.permutation(live[roles == "person"])
    return groups + [persons[i : i + 20] for i in range(0, len(persons) - 19, 20)]


def describe(named: Named, truth: Truth) -> list[dict[str, Any]]:
    """Say who is in each group that `detect` named, to find out why.

    Args:
        named: what it said.
        truth: of the world.

    Returns:
        Roles of the accounts, kinds of the exchanges, p-value and first reason of each group.
    """
    return [
        {
            "p_value": -group.score,
            "roles": dict(Counter(str(truth.role[a]) for a in group.accounts)),
            "groups": len({truth.group[a] for a in group.accounts}),
            "harvest": int((truth.kind[group.rows] == HARVEST).sum()),
            "exchanges": len(group.rows),
            "reason": reason,
        }
        for group, reason in zip(named.groups, named.reasons, strict=True)
    ]


def price_of(world: World) -> dict[str, float]:
    """Say what a campaign pays for what it harvests.

    Args:
        world: with or without a campaign.

    Returns:
        Exchanges and output tokens of campaign accounts for each one harvested, cover included.
    """
    truth = world.truth
    harvest, mine = truth.kind == HARVEST, (truth.row_campaign >= 0) & truth.live
    if not harvest.any():
        return {}
    return {
        "exchanges": float(mine.sum() / harvest.sum()),
        "tokens": float(truth.tokens[mine].sum() / max(truth.tokens[harvest].sum(), 1)),
    }


def _choices(found: _Found, world: World) -> list[dict[str, Any]]:
    """Give a method's rows: as published, and the best that the truth can pick at each level."""
    method, cpu_s = found.method, found.cpu_s
    plain = found.settings[found.published]
    rows = [_row((method, "published", None), plain, world, cpu_s=cpu_s)]
    for level in LEVELS:
        cuts = [best_cut(groups, world.truth, level) for groups in found.settings.values()]
        made = [_row((method, "best", level), groups, world, cpu_s=cpu_s) for groups in cuts]
        rows.append(
            max(made, key=lambda row: (row["exchange_recall"] or 0.0, -row["exchange_fdr"]))
        )
    return rows


def _row(
    what: tuple[str, str, float | None], groups: Sequence[Group], world: World, *, cpu_s: float
) -> dict[str, Any]:
    method, choice, level = what
    wrong = false_groups(groups, world.truth)
    roles = Counter(main_role(g, world.truth) for g, bad in zip(groups, wrong, strict=True) if bad)
    figures = {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in score_groups(groups, world.truth)._asdict().items()
    }
    return {
        "method": method, "choice": choice, "level": level, "cpu_s": cpu_s,
        "false_roles": dict(roles), **figures,
    }  # fmt: skip


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun
