"""What a test of a suspect found: one plain record, the same for every test.

A number called a p-value or an e-value needs a null that our own randomness defines: a key that we
drew, a canary variant that we drew, a split that we drew. So a finding that carries one must name
that randomisation, and a finding about similarity, which has none, may only carry a rank: "k of R
reference models were at least as close".
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from stillwatch.errors import reject

#: Draws of ours, independent of each other: their e-values may be multiplied in a verdict.
DRAWS = ("key", "canary", "withheld")
#: What may stand in front of the colon of `Finding.randomisation`. `samples` is the sampling of two
#: models that are compared: it makes an exact p-value for "the same model", which no verdict about
#: learning may multiply.
RANDOMISATIONS = (*DRAWS, "samples")
_WHERE = "Finding"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one test of one suspect.

    Attributes:
        test: the test's name: `radioactivity-closed`, `canary`, `lineage`, ...
        statistic: what was counted or measured, higher = more suspicious.
        p_value: chance of a statistic at least so high under the null, 0..1 (0.0 where a double
            underflows); None for a test without a randomisation of ours.
        log10_p: its decimal logarithm, at most 0 and finite.
        e_log10: log10 of an e-value for the same null; for a `sequential` test the largest value
            that the process has had so far.
        randomisation: `key:ID`, `canary:ID` or `withheld:ID`: the draw of ours that makes the
            p-value or e-value (`samples:ID`: the sampling of the models); None for similarity.
        rank: (k, R): k of R reference models are at least as suspicious; None where there are no
            references.
        n: independent units that were scored (windows, canaries, items, prompts).
        needed: units that the planned error rate and power ask for; None where it is not known.
        sequential: the e-value comes from a process that may be looked at after every unit, in an
            order fixed beforehand; False = it holds for the one number of units that was planned.
        null: the null hypothesis in one sentence.
        notes: what a reader must know: what was left out, what looks odd.
        details: further plain numbers and texts, for reports and for whoever recomputes.
    """

    test: str
    statistic: float
    p_value: float | None = None
    log10_p: float | None = None
    e_log10: float | None = None
    randomisation: str | None = None
    rank: tuple[int, int] | None = None
    n: int = 0
    needed: int | None = None
    sequential: bool = False
    null: str = ""
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be a finding.

        Raises:
            InvalidInputError: a number is out of range, or a p-value or e-value stands without a
                randomisation.
        """
        if not self.test:
            reject(_WHERE, "test", "the name of a test", got=self.test)
        if self.n < 0:
            reject(_WHERE, "n", "at least 0", got=self.n)
        self._check_p_value()
        if self.e_log10 is not None and (math.isnan(self.e_log10) or self.e_log10 == math.inf):
            reject(_WHERE, "e_log10", "a number below infinity", got=self.e_log10)
        if self.randomisation is None:
            self._check_similarity()
        else:
            kind, _, identity = self.randomisation.partition(":")
            if kind not in RANDOMISATIONS or not identity:
                rule = f"one of {', '.join(f'{one}:ID' for one in RANDOMISATIONS)}, or None"
                reject(_WHERE, "randomisation", rule, got=self.randomisation)
        if self.rank is not None and not 0 <= self.rank[0] <= self.rank[1]:
            reject(_WHERE, "rank", "(k, R) with 0 <= k <= R", got=self.rank)

    @property
    def is_similarity(self) -> bool:
        """Whether this finding has no randomisation of ours, and so proves nothing by itself."""
        return self.randomisation is None

    @property
    def kind(self) -> str:
        """`key`, `canary`, `withheld`, or `similarity`."""
        return (self.randomisation or "similarity").partition(":")[0]

    def _check_p_value(self) -> None:
        if (self.p_value is None) != (self.log10_p is None):
            reject(_WHERE, "log10_p", "given exactly when p_value is", got=self.log10_p)
        if self.p_value is None or self.log10_p is None:
            return
        if not 0 <= self.p_value <= 1:
            reject(_WHERE, "p_value", "between 0 and 1", got=self.p_value)
        # A last digit above 0 is rounding: log10 of a sum that is 1.
        if not -math.inf < self.log10_p <= 1e-9:
            reject(_WHERE, "log10_p", "finite and at most 0", got=self.log10_p)
        if self.p_value > 1e-300 and abs(math.log10(self.p_value) - self.log10_p) > 1e-6:
            reject(_WHERE, "log10_p", "the logarithm of p_value", got=self.log10_p)

    def _check_similarity(self) -> None:
        if self.p_value is not None or self.e_log10 is not None:
            rule = "named where there is a p-value or an e-value"
            hint = "similarity has no exact null: give `rank`, and a model's own p in `details`"
            reject(_WHERE, "randomisation", rule, got=None, hint=hint)
