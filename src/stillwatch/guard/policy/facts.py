"""The facts of one request, from the accounts table, the key table, the verdict and the question.

The accounts table has columns for some facts; the others stand in its `tags`, as `name=value`:
`org_country=XX`, `owners=XX:0.6|YY:0.4`, `list_hits=NAME:2026-11-01|...` (`list_hits=none` says
that it was screened without a hit), `reseller_depth=1`. What stands nowhere, or cannot be read, is
not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stillwatch.guard.policy.document import PolicyFile
from stillwatch.guard.policy.facts_file import country_of, hits_of, shares_of
from stillwatch.guard.policy.limits import HOUR_S, Volumes
from stillwatch.guard.policy.vocabulary import NOTHING, PLACES, WEEKDAYS, Facts
from stillwatch.guard.wall.ladder import DAY_S
from stillwatch.guard.wall.verdict import Verdict

if TYPE_CHECKING:
    from stillwatch.logs.accounts import AccountRow

_DEEPEST: Final = 16  # resellers in a row; more is a circle
_REMEMBERED: Final = 8192  # accounts whose facts are kept ready
#: Parameters that ask for something, by the capability that they ask for.
_ASKING: Final = {
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "reasoning": "reasoning",
    "reasoning_effort": "reasoning",
    "include_reasoning": "reasoning",
    "thinking": "reasoning",
    "tools": "tools",
    "functions": "tools",
    "response_format": "structured",
    "seed": "seed",
}
_EMPTY: Final[tuple[object, ...]] = (None, False, [], {}, "", 0)


class Asking(NamedTuple):
    """One request, as the gateway knows it.

    Attributes:
        account: who asks.
        org: by the key table or the log, or None.
        model: asked for, or None when the route is not read.
        asks: capabilities asked for, or None when the body is not read.
        address: the client's, or None.
        verdict: what is held against the account, or None.
        campaign_id: the campaign by the log, where there is no verdict at hand; "" none.
        is_verified: whether it has shown who it is at the challenge; None is not known.
        questions: how many questions this is (count); a batch is many.
    """

    account: str
    org: str | None = None
    model: str | None = None
    asks: frozenset[str] | None = None
    address: str | None = None
    verdict: Verdict | None = None
    campaign_id: str = ""
    is_verified: bool | None = None
    questions: int = 1


class FactSource:
    """Makes the facts of requests.

    Args:
        policy: says which facts are asked for, tiers and networks.
        accounts: rows by account; empty without a table.
    """

    def __init__(self, policy: PolicyFile, accounts: Mapping[str, AccountRow]) -> None:
        self._policy = policy
        self._accounts = accounts
        self._base = lru_cache(_REMEMBERED)(self._account_facts)
        self._tier = lru_cache(1024)(policy.tier)
        self._words = policy.words
        self._asks_network = policy.networks is not None and "network_country" in self._words
        self._asks_time = not self._words.isdisjoint({"hour", "weekday"})
        self.volumes = Volumes(self._words)

    def facts(self, asking: Asking, now: float, *, count: bool = True) -> Facts:
        """Gather the facts of a request, and count it.

        Args:
            asking: the request.
            now: UTC epoch seconds.
            count: count it towards the account's volume.

        Returns:
            Facts, a list of its own.
        """
        base, created_at = self._base(asking.account, asking.org)
        facts: Facts = list(base)
        if created_at is not None:
            facts[_AGE] = max(0.0, (now - created_at) / DAY_S)
        model = asking.model
        if model is not None:
            facts[_MODEL], facts[_TIER] = model, self._tier(model)
        facts[_ASKS] = asking.asks
        facts[_VERIFIED] = asking.is_verified
        if self._asks_network and asking.address is not None:
            facts[_NETWORK] = self._country(asking.address, now)
        self._add_verdict(facts, asking, now)
        amount = float(asking.questions) if count else 0.0
        self._add_volume(facts, asking.account, now, amount=amount)
        if self._asks_time:
            days, seconds = divmod(now, DAY_S)
            facts[_HOUR] = seconds / HOUR_S
            facts[_WEEKDAY] = WEEKDAYS[(int(days) + 3) % 7]  # the epoch was a Thursday
        return facts

    def _country(self, address: str, now: float) -> str | None:
        networks = self._policy.networks
        if networks is None or now >= networks.source.stale_at:
            return None
        return networks.country(address)

    def _add_verdict(self, facts: Facts, asking: Asking, now: float) -> None:
        verdict = asking.verdict
        if verdict is None:
            facts[_IN], facts[_CAMPAIGN] = bool(asking.campaign_id), asking.campaign_id
            if not asking.campaign_id:
                facts[_SINCE] = facts[_RISK] = 0.0
            return
        campaign = verdict.campaign
        facts[_IN], facts[_CAMPAIGN] = True, campaign.campaign_id
        facts[_SINCE] = max(0.0, (now - campaign.since) / DAY_S)
        if campaign.p_value is not None:
            facts[_RISK] = -math.log10(max(campaign.p_value, 1e-300))

    def _add_volume(self, facts: Facts, account: str, now: float, *, amount: float) -> None:
        volumes = self.volumes
        if volumes.per_hour is not None:
            facts[_PER_HOUR] = volumes.per_hour.add(account, now, amount=amount)
        if volumes.per_day is not None:
            facts[_PER_DAY] = volumes.per_day.add(account, now, amount=amount)
        if volumes.tokens is not None:
            facts[_TOKENS] = volumes.tokens.add(account, now, amount=0.0)

    def _account_facts(self, account: str, org: str | None) -> tuple[Facts, float | None]:
        facts: Facts = list(NOTHING)
        facts[PLACES["account"]] = account
        row = self._accounts.get(account)
        facts[PLACES["org"]] = org if row is None or org is not None else row.org
        if row is None:
            return facts, None
        tagged, tags = _split(row.tags)
        facts[PLACES["tags"]] = tags
        facts[PLACES["billing_country"]] = country_of(row.billing_country)
        facts[PLACES["phone_country"]] = country_of(row.phone_country)
        facts[PLACES["email_domain"]] = row.email_domain
        facts[PLACES["kyc_level"]] = row.kyc_level
        facts[PLACES["plan"]] = row.plan
        facts[PLACES["reseller"]] = row.reseller_id or ""
        facts[PLACES["org_country"]] = country_of(tagged.get("org_country"))
        facts[PLACES["owners"]] = _pairs(tagged.get("owners"), shares_of)
        facts[PLACES["list_hits"]] = _pairs(tagged.get("list_hits"), hits_of)
        facts[PLACES["reseller_depth"]] = self._depth(row, tagged.get("reseller_depth"))
        return facts, row.created_at

    def _depth(self, row: AccountRow, given: str | None) -> int | None:
        if given is not None:
            return int(given) if given.isdecimal() and len(given) < 4 else None
        depth = 0
        seller: AccountRow | None = row
        while seller is not None and seller.reseller_id:
            depth += 1
            if depth > _DEEPEST:
                return None
            # A reseller that is an account itself may have one of its own.
            seller = self._accounts.get(seller.reseller_id)
        return depth


def capabilities(
    parameters: Mapping[str, Any], *, has_tools: bool = False, streamed: bool = False
) -> frozenset[str]:
    """Tell what a question asks for beyond plain text.

    Args:
        parameters: of the question, by the wire's names.
        has_tools: tool definitions came along, where the parameters do not hold them.
        streamed: the answer shall come as events.

    Returns:
        Capabilities.
    """
    found = {
        _ASKING[name]
        for name, value in parameters.items()
        if name in _ASKING and (name == "seed" or value not in _EMPTY)
    }
    answers = [parameters.get(name) for name in ("n", "best_of")]
    if any(isinstance(number, int | float) and number > 1 for number in answers):
        found.add("many")
    if has_tools:
        found.add("tools")
    if streamed or parameters.get("stream") is True:
        found.add("stream")
    return frozenset(found)


def route_capabilities(path: str) -> frozenset[str]:
    """Tell what a route that is not read is for.

    Args:
        path: of the request.

    Returns:
        Capabilities; always with `other_route`.
    """
    words = set(path.lower().strip("/").split("/"))
    found = {"other_route"}
    for capability, names in _ROUTES.items():
        if words & names:
            found.add(capability)
    return frozenset(found)


_ROUTES: Final = {
    "batch": {"batch", "batches"},
    "files": {"files", "uploads"},
    "embeddings": {"embeddings"},
}


def _split(tags: tuple[str, ...]) -> tuple[dict[str, str], frozenset[str]]:
    tagged = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    return {k.strip(): v.strip() for k, v in tagged.items()}, frozenset(tags)


def _pairs(text: str | None, read: Any) -> Any:
    if text is None:
        return None
    if text.lower() in {"", "none"}:
        return {}
    pairs = [part.rpartition(":") for part in text.split("|")]
    return read({name.strip(): value.strip() for name, _, value in pairs})


_AGE, _MODEL, _TIER, _ASKS = (
    PLACES[w] for w in ("account_age_days", "model", "model_tier", "asks")
)
_NETWORK, _IN, _CAMPAIGN, _SINCE, _RISK = (
    PLACES[w] for w in ("network_country", "in_campaign", "campaign", "campaign_age_days", "risk")
)
_PER_HOUR, _PER_DAY, _TOKENS = (
    PLACES[w] for w in ("questions_per_hour", "questions_per_day", "output_tokens_per_day")
)
_HOUR, _WEEKDAY, _VERIFIED = PLACES["hour"], PLACES["weekday"], PLACES["verified"]
