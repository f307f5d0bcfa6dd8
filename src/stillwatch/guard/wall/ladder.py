"""The ladder: what is done to a campaign on which model, how soon, and its shared token bucket.

A rung says what happens and from when on (`after_s` counts from the first verdict on the
campaign). Harsher rungs wait: a verdict that turns out wrong should have cost little by then. What
a rung does quietly (log_full, strip, watermark, canary) goes on under the rungs after it; throttle
and challenge last until the next one.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, Protocol, get_args

from stillwatch.errors import reject

RungAction = Literal[
    "observe", "log_full", "strip", "throttle", "challenge", "watermark", "canary", "block"
]
#: What is done to a question without its being refused, from weak to strong.
QUIET: Final = ("log_full", "strip", "watermark", "canary")
NOBODY: Final[frozenset[str]] = frozenset()
Mode = Literal["observe", "enforce"]
DAY_S: Final = 86_400.0
_STEP_BACK_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder.

    Attributes:
        action: observe, log_full, strip, throttle, challenge, watermark, canary or block.
        after_s: seconds since the campaign's first verdict from which this rung holds.
        limit_per_day: for throttle, questions a day that the WHOLE campaign may still ask.
        burst: for throttle, how many of these may come at once; None means an hour's share.
        needs_approval: the rung waits until an admin approves it for the campaign; the ones before
            it hold meanwhile.
    """

    action: RungAction
    after_s: float = 0.0
    limit_per_day: float | None = None
    burst: float | None = None
    needs_approval: bool = False

    def __post_init__(self) -> None:
        where = "ladder"
        if self.action not in get_args(RungAction):
            reject(where, "action", f"one of {', '.join(get_args(RungAction))}", got=self.action)
        if self.after_s < 0:
            reject(where, "after_s", "at least 0", got=self.after_s)
        if self.action == "throttle" and not (self.limit_per_day or 0) > 0:
            reject(where, "limit_per_day", "above 0 on a throttle rung", got=self.limit_per_day)
        if self.burst is not None and self.burst < 1:
            reject(where, "burst", "at least 1", got=self.burst)

    @property
    def rate_per_s(self) -> float:
        """Tokens that flow back into the campaign's bucket (1/s); 0 unless throttle."""
        return (self.limit_per_day or 0.0) / DAY_S

    @property
    def capacity(self) -> float:
        """Tokens that the campaign's bucket holds (count, at least 1)."""
        return self.burst or max(1.0, (self.limit_per_day or 0.0) / 24.0)

    def refilled(self, level: float, elapsed_s: float) -> float:
        """Let tokens flow back into a bucket.

        Args:
            level: tokens that it held.
            elapsed_s: seconds since then; below 0 counts as none.

        Returns:
            Tokens that it holds now.
        """
        return min(self.capacity, level + max(0.0, elapsed_s) * self.rate_per_s)

    def wait_s(self, level: float, amount: float = 1.0) -> float:
        """Tell how long until a bucket holds enough tokens.

        Args:
            level: tokens that it holds.
            amount: tokens wanted.

        Returns:
            Seconds; 0.0 when they are there, infinite when the bucket can never hold as many.
        """
        # A refill that sums to 0.9999999999 after the announced wait is a whole token.
        if level >= amount - 1e-9:
            return 0.0
        return (amount - level) / self.rate_per_s if amount <= self.capacity else math.inf


@dataclass(frozen=True, slots=True)
class LadderRule:
    """The rungs for the models that a pattern names.

    Attributes:
        model: shell-style pattern of model names, for example `house-*`; `*` is every model.
        rungs: in order of `after_s`; the last one whose time has come holds.
    """

    model: str
    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        times = [rung.after_s for rung in self.rungs]
        if times != sorted(times):
            reject("ladder", "rungs", "in order of after_s", got=times)


class Held(NamedTuple):
    """What holds for a campaign on one model.

    Attributes:
        rung: the last one whose time has come, or None.
        effects: what is done quietly, by it and by the rungs before it.
        waiting: a rung whose time has come and that nobody has approved, or None.
    """

    rung: Rung | None = None
    effects: frozenset[str] = NOBODY
    waiting: Rung | None = None


def climb(rungs: tuple[Rung, ...], age_s: float, approved: frozenset[str] = NOBODY) -> Held:
    """Find what holds after a time.

    Args:
        rungs: of one rule.
        age_s: seconds since the campaign's first verdict.
        approved: actions that an admin has approved for the campaign.

    Returns:
        The last rung whose time has come, and what is done quietly by then; `observe` ends what
        the rungs before it did.
    """
    held, waiting, effects = None, None, NOBODY
    for rung in rungs:
        if rung.after_s > age_s:
            break
        if rung.needs_approval and rung.action not in approved:
            waiting = rung
            continue
        held = rung
        if rung.action in QUIET:
            effects |= {rung.action}
        elif rung.action == "observe":
            effects = NOBODY
    return Held(held, effects, waiting)


@dataclass(frozen=True)
class Ladder:
    """All rules of a wall; the first whose pattern matches the model counts.

    Attributes:
        rules: in order of precedence; no rule, no action.
        mode: observe (the default: nothing is done, what would have been is noted) or enforce.
    """

    rules: tuple[LadderRule, ...] = ()
    mode: Mode = "observe"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            reject("ladder", "mode", f"one of {', '.join(get_args(Mode))}", got=self.mode)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(fnmatch.translate(rule.model)) for rule in self.rules)

    @cached_property
    def _known(self) -> dict[str, tuple[Rung, ...]]:
        return {}

    @cached_property
    def actions(self) -> frozenset[str]:
        """Every action that some rung takes."""
        return frozenset(rung.action for rule in self.rules for rung in rule.rungs)

    def rung(self, model: str, age_s: float) -> Rung | None:
        """Find the rung that holds for a model.

        Args:
            model: the model asked for, as the client wrote it.
            age_s: seconds since the campaign's first verdict.

        Returns:
            The rung, or None when no rule matches or the first rung's time has not come.
        """
        return self.held(model, age_s).rung

    def held(self, model: str, age_s: float, approved: frozenset[str] = NOBODY) -> Held:
        """Find what holds for a model.

        Args:
            model: the model asked for, as the client wrote it.
            age_s: seconds since the campaign's first verdict.
            approved: actions that an admin has approved for the campaign.

        Returns:
            The rung and the quiet effects.
        """
        return climb(self.rungs(model), age_s, approved)

    def held_anywhere(self, age_s: float, approved: frozenset[str] = NOBODY) -> Iterator[Held]:
        """List what holds rule by rule.

        Routes that the gateway passes without reading name no model; they use this instead.

        Args:
            age_s: seconds since the campaign's first verdict.
            approved: actions that an admin has approved for the campaign.

        Returns:
            What holds, in the order of the rules.
        """
        return (climb(rule.rungs, age_s, approved) for rule in self.rules)

    def rungs(self, model: str) -> tuple[Rung, ...]:
        """Find the rungs for a model.

        Args:
            model: the model asked for, as the client wrote it.

        Returns:
            Those of the first rule that fits; () when none does.
        """
        rungs = self._known.get(model)
        if rungs is None:
            pairs = zip(self._patterns, self.rules, strict=True)
            rungs = next((rule.rungs for pattern, rule in pairs if pattern.match(model)), ())
            # Model names come from clients: the memory must not grow with their inventions.
            if len(self._known) < 1024:
                self._known[model] = rungs
        return rungs


def stepped(last: float, now: float) -> float:
    """Tell from when on a bucket fills, where the clock may have been set back.

    Args:
        last: when it was last asked (UTC epoch seconds).
        now: UTC epoch seconds.

    Returns:
        `last`; `now` where that is more than a minute earlier, which is no order of questions but
        a clock: a bucket that waited for the old time to come again would give nothing till then.
    """
    return now if now < last - _STEP_BACK_S else last


class Buckets(Protocol):
    """Where the campaigns' tokens are."""

    def take(self, campaign_id: str, now: float, *, rung: Rung, amount: float = 1.0) -> float:
        """Take tokens of a campaign's bucket, all or none.

        Args:
            campaign_id: whose bucket.
            now: UTC epoch seconds; a time before the last one counts as that one.
            rung: the throttle rung that says rate and capacity.
            amount: tokens wanted.

        Returns:
            0.0 when they were there and are taken now, else seconds until they will be; infinite
            when the bucket can never hold as many.
        """
        ...


class TokenBuckets:
    """One bucket a campaign, whatever account asks: more accounts buy no more answers.

    State lives in memory: a restart fills the buckets again, once.
    """

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, campaign_id: str, now: float, *, rung: Rung, amount: float = 1.0) -> float:
        """Take tokens, as `Buckets` says.

        Args:
            campaign_id: whose bucket.
            now: UTC epoch seconds.
            rung: the throttle rung that says rate and capacity.
            amount: tokens wanted.

        Returns:
            0.0 when they are taken, else seconds until they will be there.
        """
        level, last = self._levels.get(campaign_id, (rung.capacity, now))
        last = stepped(last, now)
        level = rung.refilled(level, now - last)
        wait_s = rung.wait_s(level, amount)
        held = level if wait_s > 0 else max(0.0, level - amount)
        self._levels[campaign_id] = (held, max(now, last))
        return wait_s

    def lower(self, campaign_id: str, level: float, now: float) -> None:
        """Take over that a bucket holds less, as others know who share it; never more.

        Args:
            campaign_id: whose bucket.
            level: tokens that are left at most.
            now: UTC epoch seconds.
        """
        known, last = self._levels.get(campaign_id, (math.inf, now))
        last = stepped(last, now)
        self._levels[campaign_id] = (min(known, level), max(now, last))

    def levels(self) -> Mapping[str, float]:
        """Tell the tokens left per campaign, as of its last question.

        Returns:
            campaign id -> tokens.
        """
        return {campaign_id: level for campaign_id, (level, _) in self._levels.items()}


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """How surely a campaign must be found before it counts, and missed before it does not.

    Attributes:
        found: findings needed among the last `of` learnings before verdicts are written (count).
        of: learnings looked back on (count).
        missed: learnings in a row without it that end its verdicts (count); 0 leaves that to
            `learner.verdict_ttl_s`.
    """

    found: int = 1
    of: int = 1
    missed: int = 0

    def __post_init__(self) -> None:
        where = "hysteresis"
        if not 1 <= self.of <= 1000:
            reject(where, "of", "1 to 1000", got=self.of)
        if not 1 <= self.found <= self.of:
            reject(where, "found", f"1 to {self.of} (of)", got=self.found)
        if not 0 <= self.missed <= 1000:
            reject(where, "missed", "0 to 1000", got=self.missed)

    @property
    def is_trivial(self) -> bool:
        """Whether one finding is enough and no miss counts, so that nothing need be remembered."""
        return self.found == 1 and self.missed == 0
