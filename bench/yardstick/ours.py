"""`detect` as one method among others, and when it first alarms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect import DetectConfig, Findings, Profiles, find_campaigns, fold
from stillwatch.logs.accounts import AccountTable
from yardstick.observed import Observed
from yardstick.score import HARVEST, Group, World, false_groups

#: Harvest exchanges after which the log so far is looked at; each look is twice the last.
_FIRST_LOOK = 50


class Named(NamedTuple):
    """What `detect` said.

    Attributes:
        groups: its campaigns, in numbers of the benchmark.
        reasons: first sentence of the evidence of each.
        p_values: of all candidates that were tested.
        cpu_s: spent, without the fold.
    """

    groups: list[Group]
    reasons: list[str]
    p_values: list[float]
    cpu_s: float


class FirstAlarm(NamedTuple):
    """When a campaign was first named.

    Attributes:
        harvest: harvest exchanges seen by then (count); all of them when none was ever named.
        share: of the campaign's harvest.
        days: since its first exchange.
        seen: whether it was named at all.
    """

    harvest: int
    share: float
    days: float
    seen: bool


def name_groups(
    profiles: Profiles,
    reference: Profiles | None,
    observed: Observed,
    *,
    table: AccountTable | None,
    fdr: float,
) -> Named:
    """Find campaigns and translate them.

    Args:
        profiles: the log.
        reference: honest history, or None.
        observed: the same log as the benchmark numbers it.
        table: what is known of the accounts.
        fdr: nominal rate.

    Returns:
        Groups that list the exchanges which `detect` listed.
    """
    begun = time.process_time()
    config = msgspec.structs.replace(DetectConfig(), fdr=fdr)
    findings = find_campaigns(profiles, reference, config, table=table)
    cpu_s = time.process_time() - begun
    tested = [c.p_value for c in findings.candidates if c.ratio is not None]
    reasons = [campaign.evidence[0].text for campaign in findings.campaigns]
    return Named(to_groups(findings, observed), reasons, tested, cpu_s)


def to_groups(findings: Findings, observed: Observed) -> list[Group]:
    """Translate campaigns into account and row numbers.

    Args:
        findings: of `detect`.
        observed: the log.

    Returns:
        One group a campaign.
    """
    groups = []
    for campaign in findings.campaigns:
        accounts = _places(campaign.accounts, observed.accounts)
        rows = _places(campaign.exchange_ids, observed.exchange_id)
        # The coarsest profiles keep no ids: then all that the members asked is meant.
        rows = rows if len(rows) else observed.rows_of(accounts)
        groups.append(Group(accounts, rows, -campaign.p_value))
    return groups


def find_first_alarm(world: World, reference: Profiles | None) -> FirstAlarm:
    """Look again whenever the harvest has doubled, until a campaign is named at 1 %.

    Args:
        world: the log and its truth, which says how much harvest went by.
        reference: honest history, or None.

    Returns:
        The state at the first look that named a campaign and not mostly strangers.
    """
    truth, observed = world.truth, world.observed
    times = np.sort(observed.started_at[(truth.kind == HARVEST) & truth.live])
    looks = [_FIRST_LOOK * 2**k for k in range(30) if _FIRST_LOOK * 2**k < len(times)]
    for n in [*looks, len(times)]:
        until = float(times[n - 1])
        profiles = fold(b.filter(pc.less_equal(b["started_at"], until)) for b in world.live)
        named = name_groups(profiles, reference, observed, table=world.table, fdr=0.01)
        if not false_groups(named.groups, truth).all():
            return FirstAlarm(n, n / len(times), float(until - times[0]) / 86_400, seen=True)
    return FirstAlarm(len(times), 1.0, float(np.ptp(times)) / 86_400, seen=False)


def _places(names: Sequence[str], among: pa.Array) -> Any:
    found = pc.index_in(pa.array(names, among.type), value_set=among).drop_null()
    return np.unique(found.to_numpy().astype(np.int64))
