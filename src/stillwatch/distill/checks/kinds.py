"""The checks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stillwatch.distill.checks.choice import ChoiceCheck, ChoiceOptions
from stillwatch.distill.checks.code import CodeCheck, CodeOptions
from stillwatch.distill.checks.exact import TextCheck, TextOptions
from stillwatch.distill.checks.judge import JudgeCheck, JudgeOptions
from stillwatch.distill.checks.judgement import Check, read_options
from stillwatch.distill.checks.numeric import NumericCheck, NumericOptions
from stillwatch.distill.checks.regex import RegexCheck, RegexOptions
from stillwatch.errors import reject
from stillwatch.model.protocol import Model

Options = Mapping[str, Any] | None


def _exact(options: Options, judge: Model | None) -> Check:
    return TextCheck("exact", read_options("exact", options, TextOptions))


def _normalised(options: Options, judge: Model | None) -> Check:
    return TextCheck("normalised", read_options("normalised", options, TextOptions))


def _numeric(options: Options, judge: Model | None) -> Check:
    return NumericCheck(read_options("numeric", options, NumericOptions))


def _choice(options: Options, judge: Model | None) -> Check:
    return ChoiceCheck(read_options("choice", options, ChoiceOptions))


def _regex(options: Options, judge: Model | None) -> Check:
    return RegexCheck(read_options("regex", options, RegexOptions))


def _code(options: Options, judge: Model | None) -> Check:
    return CodeCheck(read_options("code", options, CodeOptions))


def _judge(options: Options, judge: Model | None) -> Check:
    if judge is None:
        reject("check judge", "judge", "a model", got=None, hint="name one in the run's settings")
    return JudgeCheck(read_options("judge", options, JudgeOptions), judge)


KINDS: dict[str, Callable[[Options, Model | None], Check]] = {
    "exact": _exact,
    "normalised": _normalised,
    "numeric": _numeric,
    "choice": _choice,
    "regex": _regex,
    "code": _code,
    "judge": _judge,
}


def check_of(kind: str, options: Options = None, *, judge: Model | None = None) -> Check:
    """Make a check.

    Args:
        kind: one of `KINDS`.
        options: the check's own, by name; each has a default. docs/checks.md lists them.
        judge: the model that judges; `kind = "judge"` needs one, the others do not look at it.

    Returns:
        The check: call it with (truth, answer, item), or await its `judge` or `judge_many`.

    Raises:
        InvalidInputError: an unknown kind, or a judge without a model; a ConfigError for an option.

    Example:
        >>> from stillwatch.distill.items import Item
        >>> item = Item(item_id="q1", messages=())
        >>> check_of("numeric", {"absolute": 0.5})("12", "The answer is 12.4.", item).correct
        True
    """
    if kind not in KINDS:
        reject("check_of", "kind", f"one of {', '.join(KINDS)}", got=kind)
    return KINDS[kind](options, judge)
