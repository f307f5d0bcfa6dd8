"""The stages of a filter: each names the reason that it finds against an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from stillwatch.distill.asking.attempts import Answered, outcome_of
from stillwatch.distill.checks import KINDS, Check, Row, check_of
from stillwatch.distill.filtering.filter_table import FilterTable, Reason
from stillwatch.distill.filtering.filter_waiting import Waiting
from stillwatch.distill.filtering.refusals import refusal_of
from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions.contamination import HeldOut
from stillwatch.distill.questions.dedup import NearIndex
from stillwatch.errors import reject
from stillwatch.model.chat_turns import tool_calls_of
from stillwatch.model.protocol import Model
from stillwatch.record.exchange import Answer, Exchange, Message, canonical_json
from stillwatch.wire.body import kept
from stillwatch.wire.question import Reply

#: What `attempts.outcome_of` and `refusal_of` call things, and what the counts call them.
_CAME: dict[str, Reason] = {"failed": "failed", "filtered": "filtered"}
_CUT: dict[str, Reason] = {"truncated": "truncated", "empty": "empty"}
_ON_WIRE: dict[str, Reason] = {"content_filter": "filtered", "refusal": "refusal"}


class Candidate:
    """An answer on its way through the stages.

    Args:
        answered: the item and its exchange.

    Attributes:
        item: what was asked.
        exchange: its answer in the record.
        answer: the first choice; an empty one when there is none.
        dropped: the reason that left it out, or None so far.
    """

    __slots__ = ("answer", "dropped", "exchange", "item")

    def __init__(self, answered: Answered) -> None:
        self.item: Item = answered.item
        self.exchange: Exchange = answered.exchange
        answers = answered.exchange.answers
        self.answer = answers[0] if answers else Answer(text="")
        self.dropped: Reason | None = None


#: Names the reason that each candidate has, or None.
Stage = Callable[[list[Candidate]], list[Reason | None]]


def stages_of(
    table: FilterTable, *, held_out: Sequence[Item], judge: Model | None, waiting: Waiting
) -> list[Stage]:
    """Make the stages of a table, the cheap ones first.

    Args:
        table: what is looked for.
        held_out: the score set.
        judge: the model that judges, or None.
        waiting: what runs checks that wait.

    Returns:
        The stages, in the order of `filter_table.REASONS`.

    Raises:
        InvalidInputError: a check that does not exist, an option that it does not know, or a judge
            table without a model.
    """
    stages = [_each(_came), _each(_refused(table)), _each(_cut), _each(_too_long(table))]
    stages.append(_duplicates())
    if table.near_duplicates:
        stages.append(_near_duplicates(table.near_duplicates))
    if held_out:
        stages.append(_contaminated(table, held_out))
    if table.verify:
        stages.append(_verified(_check_for(table, judge), waiting))
    if table.judge is not None:
        if judge is None:
            reject("[filter.judge]", "the judge", "a model", got=None)
        check = check_of("judge", msgspec.to_builtins(table.judge), judge=judge)
        stages.append(_verified(lambda _: check, waiting, judged=True))
    return stages


def _each(reason_of: Callable[[Candidate], Reason | None]) -> Stage:
    return lambda block: [reason_of(candidate) for candidate in block]


def _outcome(candidate: Candidate) -> str:
    exchange = candidate.exchange
    failed = exchange.error is not None or not exchange.status < 400
    reply = None if failed and not exchange.answers else Reply(answers=exchange.answers)
    return outcome_of(reply, error=exchange.error)


def _came(candidate: Candidate) -> Reason | None:
    return _CAME.get(_outcome(candidate))


def _refused(table: FilterTable) -> Callable[[Candidate], Reason | None]:
    def reason_of(candidate: Candidate) -> Reason | None:
        how = refusal_of(candidate.answer, question=candidate.item.question)
        if how == "wording":
            return "refusal" if table.wording and _outcome(candidate) != "truncated" else None
        return _ON_WIRE[how] if how else None

    return reason_of


def _cut(candidate: Candidate) -> Reason | None:
    return _CUT.get(_outcome(candidate))


def _too_long(table: FilterTable) -> Callable[[Candidate], Reason | None]:
    tokens = table.max_output_tokens or float("inf")
    characters = table.max_characters or float("inf")

    def reason_of(candidate: Candidate) -> Reason | None:
        long = (candidate.exchange.output_tokens or 0) > tokens
        return "too_long" if long or len(candidate.answer.text) > characters else None

    return reason_of


def _duplicates() -> Stage:
    seen: set[bytes] = set()

    def reason_of(candidate: Candidate) -> Reason | None:
        item, answer = candidate.item, candidate.answer
        # Ids of tool calls are drawn anew each time; log-probabilities say nothing new.
        said = [answer.text.strip(), _calls_of(answer) if answer.extra else None]
        whole = canonical_json([item_id_of(item.messages, item.tools), said])
        mark = hashlib.blake2b(whole.encode(), digest_size=16).digest()
        if mark in seen:
            return "duplicate"
        seen.add(mark)
        return None

    return _each(reason_of)


def _calls_of(answer: Answer) -> list[list[str]]:
    found = tool_calls_of(kept(answer.extra))
    return [[call["function"]["name"], call["function"]["arguments"]] for call in found]


def _near_duplicates(threshold: float) -> Stage:
    index = NearIndex(threshold)

    def reasons(block: list[Candidate]) -> list[Reason | None]:
        texts = [f"{one.item.question}\n{one.answer.text}" for one in block]
        return [None if fresh else "near_duplicate" for fresh in index.add(texts)]

    return reasons


def _contaminated(table: FilterTable, held_out: Sequence[Item]) -> Stage:
    known = HeldOut(held_out, table.contamination)

    def reasons(block: list[Candidate]) -> list[Reason | None]:
        found = known.reasons([candidate.item for candidate in block])
        if table.contaminated_answers:
            said = known.reasons([_as_question(candidate) for candidate in block])
            # That an answer equals a score question word for word is no sign when both are one
            # word; a run of words that it shares is.
            found = [
                one or (two if two == "ngram" else None)
                for one, two in zip(found, said, strict=True)
            ]
        return ["contaminated" if one else None for one in found]

    return reasons


def _as_question(candidate: Candidate) -> Item:
    return Item(item_id="", messages=(Message("user", candidate.answer.text),))


def _check_for(table: FilterTable, judge: Model | None) -> Callable[[Item], Check | None]:
    if table.verify != "item":
        check = check_of(table.verify, table.options)
        return lambda _: check
    unknown = sorted(set(table.options) - set(KINDS))
    if unknown:
        reject("[filter.options]", "the keys", f"kinds of checks ({', '.join(KINDS)})", got=unknown)
    # Options first: a mistake in them must not wait for the first item that would use them.
    checks = {kind: check_of(kind, own, judge=judge) for kind, own in table.options.items()}

    def check_for(item: Item) -> Check | None:
        if item.check and item.check not in checks:
            checks[item.check] = check_of(item.check, judge=judge)
        return checks.get(item.check)

    return check_for


def _verified(
    check_for: Callable[[Item], Check | None], waiting: Waiting, *, judged: bool = False
) -> Stage:
    wrong: Reason = "judged_wrong" if judged else "wrong"
    unknown: Reason = "unjudged" if judged else "unverified"

    def reasons(block: list[Candidate]) -> list[Reason | None]:
        found: list[Reason | None] = [unknown] * len(block)
        by_check: dict[int, tuple[Check, list[int]]] = {}
        for n, candidate in enumerate(block):
            if (check := check_for(candidate.item)) is not None:
                by_check.setdefault(id(check), (check, []))[1].append(n)
        for check, rows in by_check.values():
            asked = [Row(block[n].item.truth, block[n].answer.text, block[n].item) for n in rows]
            for n, said in zip(rows, waiting.result(check.judge_many(asked)), strict=True):
                found[n] = unknown if said.correct is None else None if said.correct else wrong
        return found

    return reasons
