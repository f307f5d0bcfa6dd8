"""What stands on each page, in the reader's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args
from urllib.parse import quote

from stillwatch import __version__
from stillwatch.guard.admin import account_views, views
from stillwatch.guard.admin.chart import traffic_pictures
from stillwatch.guard.admin.layout import when
from stillwatch.guard.admin.page_facts import (
    account_facts,
    campaign_facts,
    health_facts,
    now_facts,
)
from stillwatch.guard.state import GuardState
from stillwatch.guard.wall.ladder import RungAction
from stillwatch.report.numbers import count, plural, seconds

Context = dict[str, Any]
Query = Mapping[str, str]
_MOST_SHOWN: Final = 200
_TIMES: Final = {
    "added_seconds": "the gateway itself",
    "upstream_seconds": "the model server, to its last byte",
    "first_byte_seconds": "to the first byte of an answer",
    "answer_seconds": "to its last byte",
}


def frame(state: GuardState) -> Context:
    """Give what every page carries.

    Args:
        state: shared.

    Returns:
        The moment, the mode and the footer.
    """
    mode, now = state.config.ladder.mode, state.clock.now()
    return {
        "now": now,
        "mode": mode,
        "footer": f"Stillwatch {__version__}, mode {mode}, {when(now)} UTC",
        "title": "Guard",
    }


def login() -> Context:
    """Give the page that asks for the token.

    Returns:
        The page's values.
    """
    return {
        "template": "login",
        "headline": "Stillwatch guard",
        "lede": "Log in with the admin token of this gateway.",
    }


def failure(message: str) -> Context:
    """Give a page that says what went wrong.

    Args:
        message: one sentence.

    Returns:
        The page's values.
    """
    return {"template": "admin", "headline": "Not done", "lede": message}


def now_page(state: GuardState, _: Query) -> Context:
    """Give the first page: what is going on.

    Args:
        state: shared.

    Returns:
        The page's values.
    """
    found = views.overview(state)
    hour, day = found["hour"], found["day"]
    names = [a for a in _ACTIONS if day.get(a) or day.get(f"would {a}")]
    return {
        "template": "now",
        "headline": _headline(found),
        "lede": _lede(state, found),
        "problems": found["health"]["problems"],
        "facts": now_facts(state, found),
        "waiting": found["waiting"],
        "chart": traffic_pictures(state.traffic.minutes(found["at"], span_s=86_400), found["at"]),
        "actions": [
            {
                "action": name,
                "hour": hour.get(name, 0),
                "day": day.get(name, 0),
                "would": day.get(f"would {name}", 0),
            }
            for name in names
        ],
        "times": [
            {"name": words, **{q: _bound(found["times"][name][q]) for q in ("p50", "p99")}}
            for name, words in _TIMES.items()
        ],
        "campaigns": views.campaigns(state)[:10],
        "decisions": account_views.decisions(state, most=15),
    }


def _bound(value: float | None) -> str:
    if value is None:
        return "not measured"
    if value == float("inf"):
        return "more than 5 min"
    return f"{1e6 * value:.0f} \u00b5s" if value < 0.001 else seconds(value)


def _headline(found: Mapping[str, Any]) -> str:
    if found["health"]["problems"]:
        return "Something needs a look"
    if found["waiting"]:
        n = len(found["waiting"])
        return "An action waits for you" if n == 1 else f"{count(n)} actions wait for you"
    if found["campaigns"]:
        return f"{plural(found['campaigns'], 'campaign')} of {plural(found['accounts'], 'account')}"
    return "No campaign known"


def _lede(state: GuardState, found: Mapping[str, Any]) -> str:
    if found["mode"] == "observe":
        return (
            "The gateway observes: nothing is done to anybody, and what would have been done is "
            "counted."
        )
    if not state.config.ladder.rules:
        return "The gateway enforces, and its configuration has no ladder: campaigns are observed."
    return "The gateway enforces its ladder."


def campaigns_page(state: GuardState, _: Query) -> Context:
    """Give the list of campaigns.

    Args:
        state: shared.

    Returns:
        The page's values.
    """
    found = views.campaigns(state)
    return {
        "template": "campaigns",
        "headline": "Campaigns",
        "lede": f"{plural(len(found), 'campaign')} found." if found else "None is known.",
        "campaigns": found[:_MOST_SHOWN],
        "former": [
            order
            for orders in state.board.orders.values()
            for order in orders
            if order.kind == "false_positive"
        ],
    }


def campaign_page(state: GuardState, query: Query) -> Context | None:
    """Give one campaign.

    Args:
        state: shared.
        query: names it.

    Returns:
        The page's values, or None.
    """
    name = query.get("campaign_id", "")
    found = views.campaign(state, name)
    if found is None:
        return None
    return {
        "template": "campaign",
        "headline": f"Campaign {name}",
        "lede": f"{plural(found['n_accounts'], 'account')} that work as one.",
        "c": found,
        "facts": campaign_facts(found, state.clock.now()),
        "rungs": list(get_args(RungAction)),
        "most": _MOST_SHOWN,
        "back": f"campaign?campaign_id={quote(name, safe='')}",
    }


def accounts_page(state: GuardState, query: Query) -> Context:
    """Give the list of accounts.

    Args:
        state: shared.
        query: may name a part of the names wanted.

    Returns:
        The page's values.
    """
    like = query.get("like", "")
    found = account_views.accounts(state, most=_MOST_SHOWN, like=like)
    return {
        "template": "accounts",
        "headline": "Accounts",
        "lede": "The busiest of those that asked since this gateway started, at most 10,000.",
        "accounts": found,
        "like": like,
    }


def account_page(state: GuardState, query: Query) -> Context | None:
    """Give one account.

    Args:
        state: shared.
        query: names it.

    Returns:
        The page's values, or None.
    """
    name = query.get("account", "")
    found = account_views.account(state, name)
    if found is None:
        return None
    return {
        "template": "account",
        "headline": f"Account {name}",
        "lede": "Counts since this gateway first saw it; the record has everything.",
        "a": found,
        "facts": account_facts(found, state.clock.now()),
        "back": f"account?account={quote(name, safe='')}",
    }


def decisions_page(state: GuardState, query: Query) -> Context:
    """Give the latest decisions.

    Args:
        state: shared.
        query: may name an account or a campaign.

    Returns:
        The page's values.
    """
    found = account_views.decisions(
        state, account=query.get("account", ""), campaign_id=query.get("campaign_id", "")
    )
    return {
        "template": "decisions",
        "headline": "Decisions",
        "lede": "The latest 300 questions that were decided, newest first.",
        "decisions": found,
    }


def policy_page(state: GuardState, _: Query) -> Context:
    """Give the policy and what its rules did.

    Args:
        state: shared.

    Returns:
        The page's values.
    """
    found = views.policy(state)
    refused = found["refused"] if found else None
    shadows = sum(rule["shadow"] for rule in found["rules"]) if found else 0
    lede = (
        f"{plural(len(found['rules']), 'rule')}, {count(shadows)} in shadow."
        if found
        else "This gateway has no rules of its own: `policy` in its configuration names a file."
    )
    return {
        "template": "policy",
        "headline": "Policy",
        "lede": lede,
        "policy": found,
        "problems": [f"The newest file is refused: {refused}"] if refused else [],
    }


async def log_page(state: GuardState, _: Query) -> Context:
    """Give the health of record and learner, and the audit log.

    Args:
        state: shared.

    Returns:
        The page's values.
    """
    found = await views.whole_health(state)
    return {
        "template": "log",
        "headline": "Record, learner and audit log",
        "lede": "Every change of a verdict, an order or a policy is a line, chained to the one "
        "before it.",
        "problems": found["problems"],
        "facts": health_facts(found, state.clock.now()),
        "lines": await views.audit(state),
    }


_ACTIONS: Final = ("allow", *get_args(RungAction))
PAGES: Final[Mapping[str, Callable[[GuardState, Query], Any]]] = {
    "": now_page,
    "campaigns": campaigns_page,
    "campaign": campaign_page,
    "accounts": accounts_page,
    "account": account_page,
    "decisions": decisions_page,
    "policy": policy_page,
    "log": log_page,
}
