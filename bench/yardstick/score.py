"""What naming groups of accounts was worth, against the truth of a made world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stillwatch.logs.accounts import AccountTable
from yardstick.observed import Floats, Ints, Observed

#: Kinds of a row's exchange in the truth.
HONEST, COVER, HARVEST = 0, 1, 2


class Group(NamedTuple):
    """Accounts that a method calls one campaign.

    Attributes:
        accounts: numbers, distinct.
        rows: exchanges that it lists, row numbers, distinct.
        score: higher = more suspicious; orders the groups of one method.
    """

    accounts: Ints
    rows: Ints
    score: float = 0.0


class Truth(NamedTuple):
    """What a world really holds.

    Attributes:
        role: what each account is, such as "person" or "campaign".
        group: name of the look-alike group or campaign of each account, "" for neither.
        campaign: number of the campaign an account works for, -1 for none, shape (n_accounts,).
        kind: HONEST, COVER or HARVEST a row, shape (n_rows,).
        row_campaign: number of the campaign a row belongs to, -1 for none, shape (n_rows,).
        live: whether a row is under test.
        tokens: output tokens a row (count).
    """

    role: Sequence[str]
    group: Sequence[str]
    campaign: Ints
    kind: Ints
    row_campaign: Ints
    live: np.ndarray
    tokens: Ints


class World(NamedTuple):
    """A made log.

    Attributes:
        live: batches under test; may be read again.
        history: honest batches from before; likewise.
        accounts: the accounts side table, in columns.
        table: the same, as `detect` takes it.
        observed: both, numbered.
        truth: what is so.
        trivial: AUC of each trivial field.
    """

    live: Iterable[pa.RecordBatch]
    history: Iterable[pa.RecordBatch]
    accounts: pa.Table | None
    table: AccountTable | None
    observed: Observed
    truth: Truth
    trivial: dict[str, float]


class Score(NamedTuple):
    """Figures of one method on one world; shares are 0..1, NaN where there is nothing to share.

    Attributes:
        named: groups (count).
        false: groups of which less than half of the accounts work for campaigns (count).
        look_alikes: false groups of which no role but one look-alike's makes up most (count).
        campaign_fdr: false / named, 0 when nothing is named.
        account_recall: campaign accounts that are in some group.
        account_fdr: accounts in groups that work for no campaign.
        exchange_recall: harvest exchanges listed.
        exchange_fdr: listed exchanges that are no harvest.
        honest_share: listed exchanges that honest people asked, covers left out.
        token_recall: output tokens of harvest that are listed.
        purity: accounts of groups that belong to their group's main campaign.
        completeness: accounts of campaigns that are in their campaign's main group.
        found: campaigns that are the main one of some group that is not false.
    """

    named: int
    false: int
    look_alikes: int
    campaign_fdr: float
    account_recall: float
    account_fdr: float
    exchange_recall: float
    exchange_fdr: float
    honest_share: float
    token_recall: float
    purity: float
    completeness: float
    found: float


def score_groups(groups: Sequence[Group], truth: Truth) -> Score:
    """Compare groups with the truth.

    Args:
        groups: what a method named; they may overlap.
        truth: of the world.

    Returns:
        The figures.
    """
    accounts = _union([g.accounts for g in groups])
    rows = _union([g.rows for g in groups])
    harvest = np.flatnonzero((truth.kind == HARVEST) & truth.live)
    hit = rows[truth.kind[rows] == HARVEST]
    members = np.flatnonzero(truth.campaign >= 0)
    wrong = false_groups(groups, truth)
    table = _crossing(groups, truth)  # shape (n_groups, n_campaigns)
    listed = sum(len(g.accounts) for g in groups)
    return Score(
        named=len(groups),
        false=int(wrong.sum()),
        look_alikes=sum(
            main_role(g, truth) not in {"person", "campaign", "lone"}
            for g, bad in zip(groups, wrong, strict=True)
            if bad
        ),
        campaign_fdr=float(wrong.mean()) if len(groups) else 0.0,
        account_recall=_share(np.isin(members, accounts).sum(), len(members)),
        account_fdr=_share((truth.campaign[accounts] < 0).sum(), len(accounts), empty=0.0),
        exchange_recall=_share(len(hit), len(harvest)),
        exchange_fdr=_share(len(rows) - len(hit), len(rows), empty=0.0),
        honest_share=_share((truth.kind[rows] == HONEST).sum(), len(rows), empty=0.0),
        token_recall=_share(truth.tokens[hit].sum(), truth.tokens[harvest].sum()),
        purity=_share(table.max(axis=1, initial=0).sum(), listed),
        completeness=_share(table.max(axis=0, initial=0).sum(), len(members)),
        found=_share(len({int(row.argmax()) for row in table[~wrong]}), table.shape[1]),
    )


def false_groups(groups: Sequence[Group], truth: Truth) -> np.ndarray:
    """Tell which groups are false: less than half of their accounts work for campaigns.

    Args:
        groups: any number.
        truth: of the world.

    Returns:
        Booleans, shape (n_groups,).
    """
    return np.array([2 * (truth.campaign[g.accounts] >= 0).sum() < len(g.accounts) for g in groups],
                    dtype=bool)  # fmt: skip


def main_role(group: Group, truth: Truth) -> str:
    """Name the role that most accounts of a group have.

    Args:
        group: with one account at least.
        truth: of the world.

    Returns:
        The role; the first in the alphabet of equal ones.
    """
    roles, counts = np.unique([truth.role[a] for a in group.accounts], return_counts=True)
    return str(roles[counts.argmax()])


def best_cut(groups: Sequence[Group], truth: Truth, fdr: float) -> list[Group]:
    """Keep the groups down to the lowest score at which the false share is at most `fdr`.

    This reads the truth: it gives a method without a calibrated threshold the best that any
    threshold could give it on this very world.

    Args:
        groups: of one method, scored.
        truth: of the world.
        fdr: share of groups that may be false.

    Returns:
        The longest prefix, by falling score, that meets the rate; ties stand or fall together.
    """
    if not groups:
        return []
    ordered = sorted(groups, key=lambda g: -g.score)
    scores = np.array([g.score for g in ordered])
    false_share = np.cumsum(false_groups(ordered, truth)) / np.arange(1, len(ordered) + 1)
    is_last = np.append(scores[1:] != scores[:-1], True)
    good = np.flatnonzero((false_share <= fdr) & is_last)
    return ordered[: good[-1] + 1] if len(good) else []


def bootstrap_mean(
    values: Floats, *, rng: np.random.Generator, draws: int = 2000
) -> tuple[float, float, float]:
    """Average over worlds, with the middle 95 % of the averages of resampled worlds.

    Args:
        values: one a world; NaN is left out.
        rng: source of the resamples.
        draws: resamples (count).

    Returns:
        Mean, low, high; NaN when no value is there.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    means = rng.choice(values, (draws, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def _crossing(groups: Sequence[Group], truth: Truth) -> Ints:
    n_campaigns = int(truth.campaign.max(initial=-1)) + 1
    table = np.zeros((len(groups), n_campaigns), dtype=np.int64)
    for i, group in enumerate(groups):
        mine = truth.campaign[group.accounts]
        table[i] = np.bincount(mine[mine >= 0], minlength=n_campaigns)
    return table


def _union(parts: list[Ints]) -> Ints:
    joined: Ints = np.unique(np.concatenate([np.empty(0, np.int64), *parts])).astype(np.int64)
    return joined


def _share(part: float, whole: float, empty: float = float("nan")) -> float:
    return float(part) / float(whole) if whole else empty
