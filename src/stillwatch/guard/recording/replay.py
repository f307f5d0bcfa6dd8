"""Takes every decision on record again, from what the audit log says it depended on.

The log has the verdicts, orders and clearances at every moment, and the hashes of configuration and
policy, whose files are kept; the record has the questions. Put together in the order of time, with
buckets and volumes running along, they must give the decisions that are on record. What cannot be
taken again is counted apart, with the reason: it is neither right nor wrong.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from stillwatch.guard.keys import Principal
from stillwatch.guard.policy.document import load_policy
from stillwatch.guard.policy.engine import Engine, Judged
from stillwatch.guard.policy.facts import Asking, FactSource
from stillwatch.guard.policy.live import LivePolicy, Mark
from stillwatch.guard.recording.audit import AuditEvent, read_audit
from stillwatch.guard.recording.history import changed_board, kept, kept_policy
from stillwatch.guard.routes.asking import STORED_TAG, Came, Wall, decide_asked
from stillwatch.guard.routes.wires import Parsed, answers_asked
from stillwatch.guard.wall.decide import Decision
from stillwatch.guard.wall.ladder import Ladder, Rung, TokenBuckets
from stillwatch.guard.wall.verdict import Board
from stillwatch.record.exchange import Exchange
from stillwatch.record.segments import read_journal
from stillwatch.wire.question import Question

if TYPE_CHECKING:
    from stillwatch.logs.accounts import AccountRow

#: Tags of decisions that more went into than question, verdicts and rules.
_BEYOND: Final = {
    STORED_TAG: "refused for a stored answer of another account",
    "refused_by": "refused by something else",
    "decided_by": "decided elsewhere",
    "batch": "decided with its batch",
}
_SHARED: Final = "its bucket is shared with other gateways"
_NO_START: Final = "nothing on record says what the gateway ran by"
#: Facts that some rules ask and that the record does not have, by why not.
_UNRECORDED: Final = {
    "a rule asks where its address lies, which is not on record": {"network_country"},
    "a rule asks for a volume, which requests on other routes are part of": {
        "questions_per_hour", "questions_per_day", "output_tokens_per_day"
    },
}  # fmt: skip


class Row(NamedTuple):
    """What the record says of one decision.

    Attributes:
        at: when the question came (UTC epoch seconds).
        exchange_id: names it.
        asking: what it asked for, without its words.
        said: what was decided.
        policy: hash of the policy that judged, or None.
        lists: name -> hash of that policy's lists.
        beyond: why it cannot be decided again, or None.
        ended_at: when its answer had left.
        output_tokens: given out (count).
    """

    at: float
    exchange_id: str
    asking: _Asked
    said: Said
    policy: str | None
    lists: tuple[tuple[str, str], ...]
    beyond: str | None
    ended_at: float
    output_tokens: int


class _Asked(NamedTuple):
    account: str
    org: str | None
    model: str
    is_read: bool
    parameters: Mapping[str, Any]
    streamed: bool
    n_answers: int


class Said(NamedTuple):
    """A decision, as far as the record has it.

    Attributes:
        action: what was done.
        campaign_id: why, or None.
        would_have: what enforce mode had done, or None.
        rule: the policy's rule that decided, or None.
        fired: the rules that fired, as one text, or None.
        policy_would: what shadow rules had changed, or None.
    """

    action: str
    campaign_id: str | None = None
    would_have: str | None = None
    rule: str | None = None
    fired: str | None = None
    policy_would: str | None = None


class Difference(NamedTuple):
    """A decision that comes out differently.

    Attributes:
        exchange_id: names it in the record.
        at: when the question came (UTC epoch seconds).
        account: who asked.
        recorded: what the record says.
        replayed: what comes out.
    """

    exchange_id: str
    at: float
    account: str
    recorded: Said
    replayed: Said


@dataclass
class Replayed:
    """What a replay found.

    Attributes:
        n_same: decisions that came out as recorded (count).
        n_different: decisions that did not (count).
        first: the first of these, or None.
        apart: decisions that cannot be taken again, by reason (count).
    """

    n_same: int = 0
    n_different: int = 0
    first: Difference | None = None
    apart: Counter[str] = field(default_factory=Counter)


Tables = Mapping[str, Mapping[str, "AccountRow"]]


def replay(state: Path, *, accounts: Tables = MappingProxyType({})) -> Replayed:
    """Take every decision in a state folder again.

    Args:
        state: the gateway's state folder; it may be a copy.
        accounts: the accounts tables that policies asked, by the hash of their files.

    Returns:
        What came out the same, what did not, and what cannot be said.

    Raises:
        RecordError: the journal, the audit log or a kept file cannot be read or does not fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(state, Path(folder), accounts)
        steps = sorted(enumerate(_steps(state)), key=lambda step: (step[1].at, step[0]))
        waiting = iter([event for _, event in steps])
        event = next(waiting, None)
        for row in sorted(_rows(state), key=lambda row: (row.at, row.exchange_id)):
            # A question that came at the moment of a change was decided before it; a start goes
            # before everything.
            while event is not None and (
                event.at < row.at or (event.kind == "started" and event.at == row.at)
            ):
                run.take(event)
                event = next(waiting, None)
            run.decide(row)
        return run.found


def _steps(state: Path) -> Iterator[AuditEvent]:
    for event in read_audit(state / "audit.jsonl"):
        if event.kind in {"started", "reloaded", "policy-loaded", "board", "batch"}:
            yield event


def _rows(state: Path) -> Iterator[Row]:
    known: dict[Any, Any] = {}

    def once(value: Any) -> Any:
        # A million rows repeat a few thousand accounts, models and hashes.
        return known.setdefault(value, value)

    for _, exchange in read_journal(state / "journal"):
        yield _row(exchange, once)


def _row(exchange: Exchange, once: Any) -> Row:
    tags = exchange.tags
    parameters = exchange.parameters
    if exchange.tools_hash is not None:
        # What the tools were is not on record, that there were some is.
        parameters = parameters | {"tools": [{}]}
    asked = _Asked(
        exchange.account,
        exchange.org,
        exchange.model,
        bool(exchange.messages or exchange.model),
        parameters,
        exchange.streamed,
        answers_asked(
            exchange.wire, Question(messages=exchange.messages, parameters=exchange.parameters)
        ),
    )
    said = Said(
        exchange.action,
        exchange.campaign_id,
        tags.get("would_have"),
        tags.get("rule"),
        tags.get("rules_fired"),
        tags.get("policy_would_have"),
    )
    lists = ((k[5:], v.rpartition(" ")[2]) for k, v in tags.items() if k.startswith("list:"))
    return Row(
        exchange.started_at,
        exchange.exchange_id,
        asked,
        once(said),
        once(tags.get("policy")),
        once(tuple(sorted(lists))),
        next((reason for tag, reason in _BEYOND.items() if tag in tags), None),
        exchange.ended_at or exchange.started_at,
        exchange.output_tokens or 0,
    )


class _Run:
    """A replay under way."""

    def __init__(self, state: Path, folder: Path, accounts: Tables) -> None:
        self._state = state
        self._folder = folder
        self._tables = accounts
        self._board = Board()
        self._buckets = TokenBuckets()
        self._config: Mapping[str, Any] | None = None
        self._ladder = Ladder()
        self._accounts: str | None = None
        self._policy: _KeptPolicy | None = None
        self._policies: dict[tuple[str, str | None], _KeptPolicy] = {}
        self._answers: list[tuple[float, str, float, int]] = []
        self.found = Replayed()

    def take(self, event: AuditEvent) -> None:
        """Let a change take effect."""
        detail = event.detail
        if event.kind == "board":
            self._board = changed_board(self._board, detail)
        elif event.kind == "batch":
            self._take_batch(event)
        else:
            if event.kind == "started":
                self._board, self._buckets = Board(), TokenBuckets()
                self._policy, self._policies, self._answers = None, {}, []
            self._config = msgspec.json.decode(kept(self._state, f"config-{detail['config']}.json"))
            self._ladder = msgspec.convert(self._config["ladder"], Ladder)
            self._accounts = detail.get("accounts")

    def decide(self, row: Row) -> None:
        """Take one decision again, and compare."""
        self._count_answers(row.at)
        why = row.beyond or (_NO_START if self._config is None else None)
        if why is None and row.policy is not None and self._tables_missing():
            why = "the accounts table of that time is not given"
        if why is None:
            replayed = self._decided(row)
            if replayed == row.said:
                self.found.n_same += 1
            else:
                why = self._excuse(row, replayed)
                if why is None:
                    self._differ(row, replayed)
        if why is not None:
            self.found.apart[why] += 1
        if row.output_tokens and row.policy is not None:
            heappush(self._answers, (row.ended_at, row.asking.account, row.at, row.output_tokens))

    def _decided(self, row: Row) -> Said:
        policy = self._policy_of(row) if row.policy is not None else None
        asked = row.asking
        parsed = None
        if asked.is_read:
            question = Question(messages=(), model=asked.model, parameters=dict(asked.parameters))
            parsed = Parsed(question, asked.streamed, None, (), n_answers=asked.n_answers)
        came = Came(Principal(asked.account, "", asked.org), {}, row.at, None)
        # Judging is all that a decision asks of a live policy.
        wall = Wall(self._board, self._ladder, self._buckets, cast("LivePolicy | None", policy))
        return _said(decide_asked(wall, came, parsed))

    def _policy_of(self, row: Row) -> _KeptPolicy:
        assert row.policy is not None, "asked for one"
        key = row.policy, self._accounts
        policy = self._policies.get(key)
        if policy is None:
            folder = self._folder / str(len(self._policies))
            folder.mkdir(exist_ok=True)
            path = kept_policy(self._state, row.policy, lists=dict(row.lists), folder=folder)
            table = self._tables.get(self._accounts, {}) if self._accounts is not None else {}
            policy = self._policies[key] = _KeptPolicy(path, table, self._policy)
        self._policy = policy
        return policy

    def _tables_missing(self) -> bool:
        return self._accounts is not None and self._accounts not in self._tables

    def _count_answers(self, now: float) -> None:
        while self._answers and self._answers[0][0] <= now:
            _, account, at, tokens = heappop(self._answers)
            if self._policy is not None:
                self._policy.source.volumes.answered(account, at, output_tokens=tokens)

    def _take_batch(self, event: AuditEvent) -> None:
        # Its tokens are missing in the bucket of whoever asks next.
        detail = event.detail
        if detail.get("took") is not None:
            rung = msgspec.convert(detail["took"], Rung)
            amount = float(detail["n_took"])
            self._buckets.take(detail["campaign_id"], event.at, rung=rung, amount=amount)

    def _excuse(self, row: Row, replayed: Said) -> str | None:
        """Say why a decision may come out differently here, where the record cannot tell."""
        assert self._config is not None, "something was decided"
        if {row.said.action, replayed.action} == {"throttle", "allow"}:
            shared = self._config.get("shared") or {}
            if shared.get("url"):
                return _SHARED
        if self._policy is None or row.policy is None:
            return None
        fired = [set((said.fired or "").split(",")) for said in (row.said, replayed)]
        rules = {rule.id: rule for rule in self._policy.engine.policy.rules}
        asked = [
            {clause.word.name for clause in rules[name].clauses}
            for name in fired[0] ^ fired[1]
            if name in rules
        ]
        # Every rule that fires here and not there, or there and not here, must have the excuse.
        for reason, words in _UNRECORDED.items():
            if asked and all(words & found for found in asked):
                return reason
        return None

    def _differ(self, row: Row, replayed: Said) -> None:
        self.found.n_different += 1
        if self.found.first is None:
            self.found.first = Difference(
                row.exchange_id, row.at, row.asking.account, row.said, replayed
            )


class _KeptPolicy:
    """A policy of an earlier time, that judges as the live one did."""

    def __init__(
        self, path: Path, accounts: Mapping[str, AccountRow], before: _KeptPolicy | None
    ) -> None:
        policy = load_policy(path)
        self.engine = Engine(policy)
        self.source = FactSource(policy, accounts)
        if before is not None:
            self.engine.buckets = before.engine.buckets
            self.source.volumes.carry(before.source.volumes)

    def judge(self, asking: Asking, now: float) -> Judged:
        """Judge one request."""
        facts = self.source.facts(asking, now)
        return self.engine.judge(facts, now, remember=True)

    def mark(self, rule: str) -> Mark:
        """Name the mark of a rule; its key is nobody's business here."""
        return Mark(f"policy-{rule}", "")


def _said(decision: Decision) -> Said:
    tags = decision.tags or {}
    return Said(
        decision.action,
        decision.campaign_id,
        decision.would_have,
        tags.get("rule"),
        tags.get("rules_fired"),
        tags.get("policy_would_have"),
    )
