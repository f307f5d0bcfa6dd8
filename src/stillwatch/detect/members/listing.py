"""Every exchange of a campaign: from the sample that found it to all that it took.

Profiles hold a sample of each account's exchanges. The tape holds a short row of every one; those
that carry a campaign's wording are its own, and so are accounts that ask them without standing in
the sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect.config import FoldConfig
from stillwatch.detect.discovery.blocks import Block
from stillwatch.detect.discovery.traits import CARRIES, Families
from stillwatch.detect.evidence.evidence import recount
from stillwatch.detect.findings import Campaign, Findings
from stillwatch.detect.profiles.levels import coarse_shingles, levels_of
from stillwatch.detect.profiles.profile import Profiles
from stillwatch.detect.profiles.tape import (
    ATTRIBUTED,
    Taken,
    Wording,
    attribute,
    least_carried,
    read_tape,
    write_exchanges,
)

#: Exchanges that make an account of no sample a member: one may be chance.
_JOINS = 3


class Listing(NamedTuple):
    """Where every exchange is, and where those of campaigns go.

    Attributes:
        tape: the log's tape.
        out: a Parquet file, replaced whole.
    """

    tape: Path
    out: Path


class Known(NamedTuple):
    """What the exchanges of named campaigns are known by.

    Attributes:
        wording: shingles of their families.
        campaign_of: campaign id of each family.
        seen: accounts with such wording in the sample: those of them that are no members were
            looked at and left out.
    """

    wording: Wording
    campaign_of: tuple[str, ...]
    seen: frozenset[str] = frozenset()


def known_wording(profiles: Profiles, families: Families, named: list[tuple[str, Block]]) -> Known:
    """Gather the wording of named campaigns.

    Args:
        profiles: the log.
        families: its families of wording.
        named: campaign id and group of each.

    Returns:
        The wording, with how much of it an exchange must carry.
    """
    numbers = np.concatenate([block.families for _, block in named] or [np.empty(0, np.int64)])
    number_of = np.full(families.n_families + 1, -1, dtype=np.int64)
    number_of[numbers] = np.arange(len(numbers))
    shingles = families.shingles.take(numbers)
    digests = profiles.digests
    coarsest = levels_of(FoldConfig())[-1]
    number = number_of[families.of_digest]
    rows = np.flatnonzero(number >= 0)
    tape_like = coarse_shingles(digests.shingles.take(rows), digests.n_asked[rows], coarsest)
    least = least_carried(tape_like, number[rows], shingles, share=CARRIES)
    campaign_of = [name for name, block in named for _ in range(len(block.families))]
    bearers = np.unique(digests.account[number_of[families.of_digest] >= 0])
    seen = frozenset(profiles.accounts.take(pa.array(bearers)).to_pylist())
    return Known(Wording(shingles, least), tuple(campaign_of), seen)


def list_exchanges(
    findings: Findings, known: Known, listing: Listing, *, profiles: Profiles
) -> Findings:
    """Write down every exchange of the campaigns, and count what they took.

    Args:
        findings: what was found in the profiles.
        known: the wording of its campaigns, in their order.
        listing: the log's tape, and the file to write.
        profiles: the log.

    Returns:
        The findings with all exchanges counted, and with the accounts that ask a campaign's
        questions without standing in the sample.

    Raises:
        RecordError: a part of the tape cannot be read.
        EnvironmentUnfitError: the file cannot be written.
    """
    rows = list(attribute(listing.tape, known.wording))
    table = pa.Table.from_batches(rows, schema=ATTRIBUTED)
    members = _members(table, findings, known)
    mine = _mine(table, known, members)
    others = _sampled(findings, known, listing.tape, listed=mine["exchange_id"])
    batches = pa.concat_tables([mine, others]).to_batches()
    taken = write_exchanges(listing.out, batches, campaign_of=known.campaign_of)
    log_tokens = int(profiles.totals.output_tokens.sum())
    campaigns = tuple(
        _counted(
            campaign,
            taken.get(campaign.campaign_id, Taken()),
            members=members[campaign.campaign_id],
            log_tokens=log_tokens,
        )
        for campaign in findings.campaigns
    )
    return msgspec.structs.replace(findings, campaigns=campaigns)


def _members(table: pa.Table, findings: Findings, known: Known) -> dict[str, set[str]]:
    """Say whose exchanges count: members, and whoever asks several of the campaign's questions."""
    names = pa.array(known.campaign_of, pa.string()).take(table["family"].combine_chunks())
    counted = pa.table({"account": table["account"], "campaign": names}).group_by([
        "account", "campaign",
    ]).aggregate([([], "count_all")])  # fmt: skip
    often = counted.filter(pc.greater_equal(counted["count_all"], _JOINS))
    taken = {account for campaign in findings.campaigns for account in campaign.accounts}
    members = {one.campaign_id: set(one.accounts) for one in findings.campaigns}
    pairs = zip(often["account"].to_pylist(), often["campaign"].to_pylist(), strict=True)
    for account, campaign in pairs:
        if account not in taken and account not in known.seen:
            members[campaign].add(account)
    return members


def _sampled(findings: Findings, known: Known, tape: Path, *, listed: pa.ChunkedArray) -> pa.Table:
    """Find the exchanges that belong to a campaign by more than the wording of its families."""
    number = {name: i for i, name in reversed(list(enumerate(known.campaign_of)))}
    family = {
        exchange: number[campaign.campaign_id]
        for campaign in findings.campaigns
        if campaign.campaign_id in number
        for exchange in campaign.exchange_ids
        if exchange
    }
    for exchange in listed.to_pylist():
        family.pop(exchange, None)
    if not family:
        return ATTRIBUTED.empty_table()
    wanted, found = pa.array(list(family), pa.string()), []
    for batch in read_tape(tape):
        rows = batch.filter(pc.is_in(batch["exchange_id"], value_set=wanted))
        numbers = [family[exchange] for exchange in rows["exchange_id"].to_pylist()]
        columns = {name: rows[name] for name in ATTRIBUTED.names if name in rows.schema.names}
        columns["family"] = pa.array(numbers, pa.int32())
        columns["carried"] = pa.array([0] * len(numbers), pa.int32())
        ordered = [columns[name] for name in ATTRIBUTED.names]
        found.append(pa.RecordBatch.from_arrays(ordered, schema=ATTRIBUTED))
    return pa.Table.from_batches(found, schema=ATTRIBUTED)


def _mine(table: pa.Table, known: Known, members: dict[str, set[str]]) -> pa.Table:
    family = table["family"].to_numpy()
    kept = np.zeros(len(family), dtype=bool)
    for campaign, accounts in members.items():
        ours = np.array([name == campaign for name in known.campaign_of], dtype=bool)
        inside = pc.is_in(table["account"], value_set=pa.array(sorted(accounts), pa.string()))
        kept |= ours[family] & inside.to_numpy()
    return table.filter(pa.array(kept))


def _counted(campaign: Campaign, taken: Taken, *, members: set[str], log_tokens: int) -> Campaign:
    if not taken.exchanges:
        return campaign
    return msgspec.structs.replace(
        campaign,
        accounts=tuple(sorted(members)),
        exchanges=taken.exchanges,
        output_tokens=taken.output_tokens,
        first_seen=taken.first_seen,
        last_seen=taken.last_seen,
        evidence=recount(campaign.evidence, taken, log_tokens=log_tokens),
    )
