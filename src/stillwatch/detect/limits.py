"""What a run did not test, and what its log does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillwatch.detect.findings import Findings
from stillwatch.detect.profile import Profiles
from stillwatch.logs.describe import COSTS

#: Column of a digest -> field of the log that it is made from.
_FIELDS = {
    "system": "system",
    "tools": "tools_hash",
    "network": "network_hash",
    "agent": "user_agent",
    "org": "org",
}
#: A field known for less than this share of the log is told as missing.
_NEARLY_ALL = 0.5
#: Fields that most honest exchanges lack.
_OPTIONAL = frozenset({"system", "tools_hash"})
#: How the reason of a group begins that could not be tested, see `confirm`.
_TOO_SMALL = "too few questions"
#: What no run can test from a log of questions.
_NEVER = (
    "Campaigns in which no group of accounts shares wording: every question in words of its own.",
    "Single accounts that harvest alone, beyond saying that one is unlike the reference.",
    "Queues shared out so that each account keeps to a topic of its own: such members look like "
    "people.",
    "Whether answers were trained on: that is asked of a suspect model (stillwatch trace).",
)


def untested(findings: Findings, profiles: Profiles, *, has_accounts: bool) -> Iterator[str]:
    """Say what a run did not test.

    Args:
        findings: of the run.
        profiles: the log.
        has_accounts: whether a table of accounts was given.

    Yields:
        Sentences.
    """
    skipped = [c for c in findings.candidates if c.reason.startswith(_TOO_SMALL)]
    if findings.reference != "given":
        yield (
            "Accounts that work a campaign's queue without its wording: they are looked for only "
            "with a reference (--reference)."
        )
    if not has_accounts:
        yield (
            "Hidden common owners (one payment mark, one sign-up address under many names): no "
            "table of accounts was given (--accounts)."
        )
    if findings.reference != "given" or findings.n_anchors < 100:
        yield (
            f"Small p-values: {findings.n_anchors} honest accounts to compare with carry "
            "no p-value far below one in a hundred; a few hundred or more do."
        )
    if skipped:
        yield f"{len(skipped)} of the groups above: too few questions, or too small a reference."
    if profiles.level > 0:
        yield (
            "Exchanges beyond the sample kept of each busy account (their totals are counted, "
            "their wording was not compared)."
        )
    yield from _NEVER


def missing_fields(profiles: Profiles) -> list[dict[str, Any]]:
    """Say what the log does not tell, and what that costs.

    Args:
        profiles: the log.

    Returns:
        Field, share of exchanges that have it, and the cost, of each that is missing or nearly so.
    """
    digests = profiles.digests
    if not len(digests.account):
        return []
    known = {
        name: float((getattr(digests, column) != 0).mean()) for column, name in _FIELDS.items()
    }
    known["question"] = float((digests.text != 0).mean())
    known["output_tokens"] = float((digests.output_tokens > 0).mean())
    return [
        {"field": name.removesuffix("_hash").replace("_", " "), "share": share, "cost": COSTS[name]}
        for name, share in known.items()
        if name in COSTS and (share == 0.0 or (share < _NEARLY_ALL and name not in _OPTIONAL))
    ]
