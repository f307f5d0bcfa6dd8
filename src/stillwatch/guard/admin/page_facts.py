"""The figures at the top of each page, each with its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stillwatch.guard.admin.layout import ago, when
from stillwatch.guard.state import GuardState
from stillwatch.report.numbers import count, p_text, plural, seconds

Data = Mapping[str, Any]


class Fact(NamedTuple):
    """One figure with its sentence.

    Attributes:
        question: what it answers.
        figure: the answer.
        sentence: what it means.
        tone: good, bad, unknown or "".
    """

    question: str
    figure: str
    sentence: str
    tone: str = ""


def now_facts(state: GuardState, found: Data) -> list[Fact]:
    """Say how things stand.

    Args:
        state: shared.
        found: `views.overview`.

    Returns:
        Facts.
    """
    hour, day, health = found["hour"], found["day"], found["health"]
    would = sum(n for name, n in day.items() if name.startswith("would "))
    refused = sum(day.get(name, 0) for name in ("throttle", "challenge", "block"))
    touched = (
        f"{count(would)} would have been touched" if found["mode"] == "observe"
        else f"{count(refused)} were refused"
    )  # fmt: skip
    last = health["last_learning"]
    learned = (
        f"Last learning {ago(last['at'], found['at'])}." if last else "It has not learned yet."
    )
    learner = {"alive": "runs", "dead": "is dead", "off": "is off"}[health["learner"]]
    lost = int(health["record_failures"])
    return [
        Fact(
            "Questions of the last hour",
            count(hour.get("questions", 0)),
            f"{count(day.get('questions', 0))} in the last day; {touched}, "
            f"{count(day.get('failed', 0))} failed.",
        ),
        Fact(
            "Accounts under a verdict",
            count(found["accounts"]),
            f"In {plural(found['campaigns'], 'campaign')}; verdicts of generation "
            f"{state.board.generation}.",
        ),
        Fact("Learner", learner, learned, "bad" if health["learner"] == "dead" else ""),
        Fact(
            "Record",
            "written" if health["recording"] else "failing",
            f"{plural(int(health['recorded']), 'exchange')} written since the start, "
            f"{count(lost)} lost.",
            "" if health["recording"] else "bad",
        ),
    ]


def campaign_facts(found: Data, now: float) -> list[Fact]:
    """Say how sure and how old a finding is.

    Args:
        found: `views.campaign`.
        now: UTC epoch seconds.

    Returns:
        Facts.
    """
    bucket = found["bucket"]
    facts = [
        Fact(
            "How sure is it?",
            f"p = {p_text(found['p_value'])}",
            "The chance that honest accounts look so much alike, calibrated on honest traffic "
            "where the learner has some.",
        ),
        Fact(
            "Since when?",
            ago(found["since"], now),
            f"Named {when(found['since'])} UTC, found again {ago(found['renewed_at'], now)}; "
            f"lapses {when(found['expires_at'])} unless it is found again.",
        ),
    ]
    if bucket is not None:
        facts.append(
            Fact("Left in its bucket", f"{bucket:.1f}", "Questions that may still come at once.")
        )
    return facts


def account_facts(found: Data, now: float) -> list[Fact]:
    """Say what is known of an account.

    Args:
        found: `views.account`.
        now: UTC epoch seconds.

    Returns:
        Facts.
    """
    seen, campaign_id = found["seen"], found["campaign_id"]
    facts = [
        Fact(
            "Campaign",
            campaign_id or "none",
            f"Named {ago(found['named_at'], now)}, until {when(found['expires_at'])} UTC."
            if campaign_id
            else "Nothing is held against it.",
            "bad" if campaign_id else "",
        )
    ]
    if seen:
        facts.append(
            Fact(
                "Questions",
                count(seen["questions"]),
                f"{count(seen['refused'])} refused, {count(seen['output_tokens'])} tokens given "
                f"out, the last {ago(seen['last_at'], now)}.",
            )
        )
    if found["verified"]:
        until = when(found["clearance"]["until"])
        by = found["clearance"]["by"]
        facts.append(Fact("Verified", f"until {until}", f"By {by or 'token'}.", "good"))
    return facts


def health_facts(found: Data, now: float) -> list[Fact]:
    """Say how record and learner are.

    Args:
        found: `views.health`.
        now: UTC epoch seconds.

    Returns:
        Facts.
    """
    facts = [
        Fact(
            "Record",
            "written" if found["recording"] else "failing",
            f"{plural(int(found['recorded']), 'exchange')} written, "
            f"{count(found['record_failures'] + found['rows_dropped'])} lost, "
            f"{count(found['bodies_dropped'])} without their texts for want of room.",
            "" if found["recording"] else "bad",
        ),
        _learner_fact(found, now),
    ]
    shared = found["shared"]
    if shared is not None:
        facts.append(_shared_fact(shared, now))
    return facts


def _learner_fact(found: Data, now: float) -> Fact:
    last, tone = found["last_learning"], "bad" if found["learner"] == "dead" else ""
    if last is None:
        sentence = "It has not learned since this gateway started."
        return Fact("Learner", found["learner"], sentence, tone)
    lag = f", {seconds(last['lag_s'])} behind" if last["lag_s"] is not None else ""
    vetted = last["n_vetted_out"]
    left_out = f" {plural(vetted, 'account')} left out of the reference." if vetted else ""
    sentence = (
        f"Learned {ago(last['at'], now)} from {plural(last['n_folded'], 'new exchange')} in "
        f"{seconds(last['seconds'])}{lag}; {plural(last['n_accounts'], 'profile')} compared."
        f"{left_out}"
    )
    return Fact("Learner", found["learner"], sentence, tone)


def _shared_fact(shared: Data, now: float) -> Fact:
    if not shared["reachable"]:
        sentence = f"Verdicts in step {ago(shared['in_step_at'], now)}; this gateway goes on alone."
        return Fact("Shared state", "out of reach", sentence, "bad")
    heard = ", ".join(f"{name} {ago(at, now)}" for name, at in sorted(shared["gateways"].items()))
    sentence = f"{shared['finder'] or 'nobody'} finds campaigns. Heard of: {heard or 'nobody'}."
    return Fact("Shared state", "reachable", sentence)
