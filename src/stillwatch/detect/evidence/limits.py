"""What a run did not test, and what its log does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillwatch.detect.findings import Findings
from stillwatch.detect.profiles.profile import Profiles
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
#: Column of a digest -> what accounts can share without a question.
_SHARED = {
    "network": "networks",
    "agent": "client software",
    "system": "system prompts",
    "tools": "tools",
    "setup": "parameters",
}
_LOST = (
    "No exchange of this log has a question, as in access logs. So shared wording, interchangeable "
    "members, questions asked twice and what was asked could not be tested: no campaign can be "
    "named from this log, and none is ruled out."
)
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
    asked = has_questions(profiles)
    if not asked:
        yield (
            "Campaigns of any kind, and single accounts that harvest: both are told by what is "
            "asked, and the log has no questions."
        )
    if findings.reference != "given" and asked:
        yield (
            "Accounts that work a campaign's queue without its wording: they are looked for only "
            "with a reference (--reference)."
        )
    if findings.owners is None:
        yield (
            "Hidden common owners (one payment mark, one sign-up address under many names): "
            f"{_why_no_owners(has_accounts=has_accounts)}."
        )
    if asked and (findings.reference != "given" or findings.n_anchors < 100):
        yield (
            f"Small p-values: {findings.n_anchors} honest accounts to compare with carry "
            "no p-value far below one in a hundred; a few hundred or more do."
        )
    if skipped and asked:
        yield f"{len(skipped)} of the groups above: too few questions, or too small a reference."
    if profiles.level > 0:
        yield (
            "Exchanges beyond the sample kept of each busy account (their totals are counted, "
            "their wording was not compared)."
        )
    yield from _NEVER if asked else _NEVER[-1:]


def has_questions(profiles: Profiles) -> bool:
    """Tell whether any exchange of a log has a question.

    Args:
        profiles: the log.

    Returns:
        Whether one has.
    """
    return bool(profiles.digests.text.any())


def without_questions(
    findings: Findings, profiles: Profiles, *, has_accounts: bool
) -> dict[str, str] | None:
    """Say what is lost, and what was tested all the same, when a log has no questions.

    Args:
        findings: of the run.
        profiles: the log.
        has_accounts: whether a table of accounts was given.

    Returns:
        Sentences under `lost` and `tested`; None when the log has questions, or no exchange.
    """
    digests, n = profiles.digests, len(findings.candidates)
    if not len(digests.account) or has_questions(profiles):
        return None
    known = [words for column, words in _SHARED.items() if getattr(digests, column).any()]
    known += ["what the table knows of sign-ups"] if has_accounts else []
    groups = (
        f"Groups of accounts that share {_listed(known)} were looked for, and {_count(n)}; by that "
        "alone none can be told from a company, a class or an office."
        if known else "Nothing that accounts could share is in this log either."
    )  # fmt: skip
    if findings.owners is None:
        owners = f"Names that share one owner were not: {_why_no_owners(has_accounts=has_accounts)}"
    else:
        found = f"{len(findings.owners)} found" if findings.owners else "none found"
        owners = (
            "Names that share a payment mark, sign-up address or e-mail address beyond chance "
            f"were tested, with p-values: {found}"
        )
    return {"lost": _LOST, "tested": f"{groups} {owners}."}


def _why_no_owners(*, has_accounts: bool) -> str:
    if not has_accounts:
        return "no table of accounts was given (--accounts)"
    return (
        "the table of accounts gives no payment mark (payment_fp), sign-up address (signup_ip) or "
        "e-mail address (email) of enough accounts of this log"
    )


def _count(n: int) -> str:
    return f"{n} {'was' if n == 1 else 'were'} found" if n else "none was found"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


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
