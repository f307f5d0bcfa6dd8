"""The part of the report of `detect` about names that share one owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatch.report.numbers import count, p_text, plural

#: What a page carries at most; the rest is in campaigns.json.
_MOST_OWNERS, _MOST_NAMES, _MOST_MARKS = 20, 150, 8


def owners_section(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Say which names share one owner, and what that does not say.

    Args:
        report: what campaigns.json holds.

    Returns:
        What the template shows; None when owners were not looked for.
    """
    owners = report.get("owners")
    if owners is None:
        return None
    line = (
        "No group of accounts under different names shares a payment mark, sign-up address or "
        "e-mail address beyond chance. Whoever takes one of each for every account shares none."
    )
    if owners:
        line = (
            "They pay or signed up as one holder does, and give themselves out as many. That is "
            "evidence about who holds accounts, not about what the accounts do: nothing here says "
            "that they harvest, and none is called a campaign for it. A firm that never filled in "
            "its organisation looks the same; ask whose they are."
        )
    return {
        "line": line,
        "owners": [_owner(one) for one in owners[:_MOST_OWNERS]],
        "more": max(len(owners) - _MOST_OWNERS, 0),
    }


def owners_clause(report: Mapping[str, Any]) -> str:
    """Say in a headline how many names share an owner.

    Args:
        report: what campaigns.json holds.

    Returns:
        A clause that starts with a comma, or "".
    """
    owners = report.get("owners") or ()
    if not owners:
        return ""
    names = sum(one["names"] for one in owners)
    whose = "one owner" if len(owners) == 1 else f"{len(owners)} owners"
    return f", but {count(names)} names share {whose}"


def _owner(owner: Mapping[str, Any]) -> dict[str, Any]:
    names, campaigns = owner["accounts"], owner.get("campaigns") or {}
    line = f"{plural(owner['exchanges'], 'exchange')}, {count(owner['output_tokens'])} output "
    line += f"tokens. Found by: {', '.join(owner['found_by'])}; the p-value does not rest on these."
    for campaign_id, n in campaigns.items():
        line += f" {count(n)} of the accounts {'is' if n == 1 else 'are'} in {campaign_id}."
    return {
        "id": owner["owner_id"],
        "p": p_text(owner["p_value"]),
        "text": owner["text"],
        "line": line,
        "marks": owner["marks"][:_MOST_MARKS],
        "more_marks": max(len(owner["marks"]) - _MOST_MARKS, 0),
        "accounts": len(names),
        "names": names[:_MOST_NAMES],
        "more_names": max(len(names) - _MOST_NAMES, 0),
    }
