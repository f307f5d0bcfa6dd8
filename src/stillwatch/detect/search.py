"""The whole search. A reference of honest traffic is searched first: what is a web leaves it.

Who names a reference seldom knows that nobody harvested in those days. A web that worked then works
on in the log: left in the reference, its wording is known, its accounts are the most alike of all
null groups, and it hides. It is looked for as in a log without a reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.detect.campaign import find_campaigns
from stillwatch.detect.config import DetectConfig
from stillwatch.detect.findings import Findings, ReferenceWeb
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.profile import Profiles

if TYPE_CHECKING:
    from stillwatch.detect.members.listing import Listing
    from stillwatch.logs.accounts import AccountTable


class Vetted(NamedTuple):
    """A reference after its own search.

    Attributes:
        profiles: the accounts that stayed.
        webs: what left, most exchanges first.
    """

    profiles: Profiles
    webs: tuple[ReferenceWeb, ...] = ()


def vet(reference: Profiles, config: DetectConfig | None = None) -> Vetted:
    """Search a reference and leave out the accounts of every campaign in it.

    A web is named at the same false discovery rate as in a log, with p-values that rest on the
    reference's own bulk and are somewhat too small. Where an honest group is left out by mistake,
    the same group is the more easily named in the log; where nothing is named, the reference is
    what it was.

    Args:
        reference: profiles of traffic that is taken to be honest.
        config: how campaigns are found.

    Returns:
        The reference without its webs, and what they were.
    """
    findings = find_campaigns(reference, None, config)
    webs = tuple(
        ReferenceWeb(
            accounts=campaign.accounts,
            p_value=campaign.p_value,
            exchanges=campaign.exchanges,
            first_seen=campaign.first_seen,
            last_seen=campaign.last_seen,
        )
        for campaign in findings.campaigns
    )
    if not webs:
        return Vetted(reference)
    left = pa.array([account for web in webs for account in web.accounts])
    stays = pc.invert(pc.is_in(reference.accounts, value_set=left))
    return Vetted(reference.select(np.asarray(stays.to_numpy(zero_copy_only=False))), webs)


def search(
    profiles: Profiles,
    reference: Vetted | None = None,
    config: DetectConfig | None = None,
    *,
    table: AccountTable | None = None,
    listing: Listing | None = None,
) -> Findings:
    """Find campaigns among profiles, beside a vetted reference.

    Args:
        profiles: the log.
        reference: vetted; None takes the log's own bulk.
        config: how.
        table: as for `find_campaigns`.
        listing: as for `find_campaigns`.

    Returns:
        The findings, with what the reference held.
    """
    honest, webs = reference or (None, ())
    found = find_campaigns(profiles, honest, config, table=table, listing=listing)
    return msgspec.structs.replace(found, reference_webs=webs)


def detect(
    batches: Iterable[pa.RecordBatch],
    *,
    reference: Iterable[pa.RecordBatch] | Profiles | None = None,
    config: DetectConfig | None = None,
) -> Findings:
    """Find campaigns in a log.

    Args:
        batches: rows of the store's schema.
        reference: honest exchanges, or their profiles; None takes the log's own bulk. It is
            searched first, and used without the campaigns that it holds.
        config: how.

    Returns:
        Campaigns, candidates and accounts.

    Raises:
        InvalidInputError: a column that is needed is absent.
    """
    config = config or DetectConfig()
    profiles = fold(batches, config.fold)
    if reference is not None and not isinstance(reference, Profiles):
        reference = fold(reference, config.fold)
    return search(profiles, None if reference is None else vet(reference, config), config)
