"""The `[filter]` table, and the counts that a filter leaves behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from stillwatch.distill.checks.judge import JudgeOptions
from stillwatch.distill.questions.table import ContaminationTable
from stillwatch.errors import reject

#: Why an answer may be left out, in the order in which it is looked at; the first reason counts.
Reason = Literal[
    "failed", "filtered", "refusal", "truncated", "empty", "too_long", "duplicate",
    "near_duplicate", "contaminated", "wrong", "unverified", "judged_wrong", "unjudged",
]  # fmt: skip
REASONS: tuple[Reason, ...] = (
    "failed", "filtered", "refusal", "truncated", "empty", "too_long", "duplicate",
    "near_duplicate", "contaminated", "wrong", "unverified", "judged_wrong", "unjudged",
)  # fmt: skip
#: Left out whatever the settings say: there is nothing to learn from.
ALWAYS: frozenset[Reason] = frozenset({"failed", "empty"})


class FilterTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of the answers is learnt from.

    The default keeps all but truncated, refused, filtered, empty and contaminated answers: on
    large runs no verifier and no choice of answers beat keeping all (OpenThoughts, arXiv
    2506.04178).

    Attributes:
        drop: the reasons that leave an answer out, besides "failed" and "empty", which always do.
            The other reasons that are looked for are counted all the same.
        wording: read refusals from the answer's wording too, not from the wire alone.
        max_output_tokens: answers of more tokens, as the teacher counted, are too long; 0 for no
            limit.
        max_characters: likewise in characters.
        near_duplicates: likeness of question and answer together from which the later one is a
            near-duplicate (0..1]; 0 does not look.
        verify: a kind of check, "item" for each item's own, or "" not to verify.
        options: options of that check.
        judge: options of a judge model, or None.
        contamination: what counts as seen by the score set.
        contaminated_answers: look for score questions in the answers too.
    """

    drop: tuple[Reason, ...] = (
        "truncated", "refusal", "filtered", "contaminated", "too_long", "near_duplicate", "wrong",
        "judged_wrong",
    )  # fmt: skip
    wording: bool = True
    max_output_tokens: int = 0
    max_characters: int = 0
    near_duplicates: float = 0.0
    verify: str = ""
    options: dict[str, Any] = {}
    judge: JudgeOptions | None = None
    contamination: ContaminationTable = ContaminationTable()
    contaminated_answers: bool = True

    def __post_init__(self) -> None:
        for name in ("max_output_tokens", "max_characters"):
            if getattr(self, name) < 0:
                reject("[filter]", name, "at least 0", got=getattr(self, name))
        if not 0 <= self.near_duplicates <= 1:
            reject("[filter]", "near_duplicates", "from 0 to 1", got=self.near_duplicates)
        if self.verify == "judge":
            reject(
                "[filter]",
                "verify",
                "a check that is not a model",
                got="judge",
                hint="write a [filter.judge] table",
            )

    def drops(self, reason: Reason) -> bool:
        """Say whether a reason leaves an answer out.

        Args:
            reason: one of `REASONS`.

        Returns:
            True when it does.
        """
        return reason in ALWAYS or reason in self.drop


@dataclass
class FilterCounts:
    """How many answers there were, and what became of them.

    Attributes:
        n_answered: answers looked at (count).
        n_kept: answers kept (count).
        dropped: left out by the first reason that did (count by reason).
        found: had the reason, whether it left them out or not (count by reason); a later reason is
            not looked for in what is left out already.
        answered_tokens: output tokens of all, unknown ones as 0 (count).
        kept_tokens: output tokens of what is kept (count).
        by_capability: answered and kept by the items' capability.
    """

    n_answered: int = 0
    n_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    answered_tokens: int = 0
    kept_tokens: int = 0
    by_capability: dict[str, list[int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as plain JSON data, every reason named, in their order."""
        return {
            "n_answered": self.n_answered,
            "n_kept": self.n_kept,
            "dropped": {reason: self.dropped[reason] for reason in REASONS},
            "found": {reason: self.found[reason] for reason in REASONS},
            "answered_tokens": self.answered_tokens,
            "kept_tokens": self.kept_tokens,
            "by_capability": {
                name: {"n_answered": answered, "n_kept": kept}
                for name, (answered, kept) in sorted(self.by_capability.items())
            },
        }
