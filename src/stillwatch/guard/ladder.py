"""The ladder: what is done to a campaign on which model, how soon, and its shared token bucket.

A rung says what happens and from when on (`after_s` counts from the first verdict on the
campaign). Harsher rungs wait: a verdict that turns out wrong should have cost little by then.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

from stillwatch.errors import reject

RungAction = Literal["observe", "throttle", "watermark", "block"]
Mode = Literal["observe", "enforce"]
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder.

    Attributes:
        action: observe, throttle, watermark or block.
        after_s: seconds since the campaign's first verdict from which this rung holds.
        limit_per_day: for throttle, questions a day that the WHOLE campaign may still ask.
        burst: for throttle, how many of these may come at once; None means an hour's share.
    """

    action: RungAction
    after_s: float = 0.0
    limit_per_day: float | None = None
    burst: float | None = None

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

    def wait_s(self, level: float) -> float:
        """Tell how long until a bucket holds a token.

        Args:
            level: tokens that it holds.

        Returns:
            Seconds; 0.0 when one is there.
        """
        # A refill that sums to 0.9999999999 after the announced wait is a whole token.
        return 0.0 if level >= 1.0 - 1e-9 else (1.0 - level) / self.rate_per_s


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

    def rung(self, model: str, age_s: float) -> Rung | None:
        """Find the rung that holds for a model.

        Args:
            model: the model asked for, as the client wrote it.
            age_s: seconds since the campaign's first verdict.

        Returns:
            The rung, or None when no rule matches or the first rung's time has not come.
        """
        held = None
        for rung in self._rungs(model):
            if rung.after_s > age_s:
                break
            held = rung
        return held

    def blocks_somewhere(self, age_s: float) -> bool:
        """Say whether a campaign of this age is blocked on any model.

        Routes that the gateway passes without reading name no model; they use this instead.

        Args:
            age_s: seconds since the campaign's first verdict.

        Returns:
            True when some rule's rung is block by now.
        """
        held = (
            [rung.action for rung in rule.rungs if rung.after_s <= age_s][-1:]
            for rule in self.rules
        )
        return any(actions == ["block"] for actions in held)

    def _rungs(self, model: str) -> tuple[Rung, ...]:
        rungs = self._known.get(model)
        if rungs is None:
            pairs = zip(self._patterns, self.rules, strict=True)
            rungs = next((rule.rungs for pattern, rule in pairs if pattern.match(model)), ())
            # Model names come from clients: the memory must not grow with their inventions.
            if len(self._known) < 1024:
                self._known[model] = rungs
        return rungs


class TokenBuckets:
    """One bucket a campaign, whatever account asks: more accounts buy no more answers.

    State lives in memory: a restart fills the buckets again, once.
    """

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, campaign_id: str, now: float, *, rung: Rung) -> float:
        """Take one token of a campaign's bucket.

        Args:
            campaign_id: whose bucket.
            now: UTC epoch seconds; a time before the last one counts as that one.
            rung: the throttle rung that says rate and capacity.

        Returns:
            0.0 when a token was there and is taken now, else seconds until one will be.
        """
        level, last = self._levels.get(campaign_id, (rung.capacity, now))
        level = rung.refilled(level, now - last)
        wait_s = rung.wait_s(level)
        held = level if wait_s > 0 else max(0.0, level - 1.0)
        self._levels[campaign_id] = (held, max(now, last))
        return wait_s

    def levels(self) -> Mapping[str, float]:
        """Tell the tokens left per campaign, as of its last question.

        Returns:
            campaign id -> tokens.
        """
        return {campaign_id: level for campaign_id, (level, _) in self._levels.items()}
