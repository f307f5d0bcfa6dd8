"""Hidden owners: accounts under many names that one party pays for or opened.

Found by what accounts share in the log (networks, client, system prompt, mail domain), confirmed
by what only one holder has (payment, sign-up address, e-mail address), which did not find them.
This is no finding of harvesting, and is not called a campaign; on logs without bodies it is all
that can be said with a p-value.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from stillwatch.detect.cotraits import CoGroup, CotraitConfig, find_cogroups
from stillwatch.detect.facts import Facts
from stillwatch.detect.principals import OWNED, Principals, Registry
from stillwatch.detect.profile import Ints, Profiles
from stillwatch.stats.multiple import benjamini_hochberg


class HiddenOwner(NamedTuple):
    """Accounts that declare different parties and share what one holder has.

    Attributes:
        accounts: account numbers, sorted.
        p_value: chance that so many parties of a random group share one payment, address or
            e-mail, times the values and kinds looked at.
        group: what found them.
        principals: what confirms them.
    """

    accounts: Ints
    p_value: float
    group: CoGroup
    principals: Principals


def find_hidden_owners(
    profiles: Profiles,
    facts: Facts,
    registry: Registry,
    *,
    fdr: float = 0.01,
    config: CotraitConfig | None = None,
) -> list[HiddenOwner]:
    """Find groups of accounts whose separate names hide one owner.

    Args:
        profiles: the log.
        facts: of its accounts; without payments and sign-ups nothing can be confirmed.
        registry: of the same log and facts.
        fdr: share of the groups that may have no common owner, by Benjamini-Hochberg.
        config: bounds of discovery.

    Returns:
        Groups of at least the least number of declared parties, most accounts first.
    """
    config = config or CotraitConfig()
    config = msgspec.structs.replace(config, without=(*config.without, *OWNED))
    candidates = [
        (group, registry.describe(group.accounts))
        for group in find_cogroups(profiles, facts, config=config)
        if registry.parties.count(group.accounts) >= config.min_accounts
    ]
    p_values = [_p_value(principals) for _, principals in candidates]
    found = [
        HiddenOwner(group.accounts, p_value, group, principals)
        for (group, principals), p_value, falls in zip(
            candidates, p_values, benjamini_hochberg(p_values, fdr).rejected, strict=True
        )
        if falls
    ]
    return sorted(found, key=lambda one: (-len(one.accounts), int(one.accounts[0])))


def _p_value(principals: Principals) -> float:
    owned = [link.p_value for link in principals.links if link.owned]
    return min(1.0, len(OWNED) * min(owned)) if owned else 1.0
