"""The `[score]` table of a run: which items, which check, which decoding."""

from __future__ import annotations

from typing import Any

import msgspec

from stillwatch.distill.questions.table import FileTable
from stillwatch.errors import reject

#: What every model is asked with when the table names nothing else: greedy, room to finish.
_DECODING = {"temperature": 0.0, "max_tokens": 512}


class ScoreTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[score]`: how teacher, student and untouched student are measured.

    Attributes:
        items: file of held-out items, beside the run's file, or a table of the shape of
            `[[questions.files]]`, which says which column holds the right answer.
        ood: the same of items from elsewhere; "" for none, which the report will say.
        check: how answers are compared with the truth where an item does not say.
        options: options of checks, by kind, for example `{numeric = {tolerance = 0.01}}`.
        parameters: decoding, the same for every model, by Chat Completions names.
        system: system turn put before items that have none; the same for every model.
        samples: answers to each item (count); above 1 needs a temperature above 0.
        seed: of the decoding, where the temperature is above 0, and of the discriminator's folds.
        level: coverage of every interval.
        max_failed: share of items that may stay without an answer of some model; they are left out
            for all models. Beyond it nothing is scored.
        discriminator: tell teacher from student by their wording too.
    """

    items: str | FileTable = ""
    ood: str | FileTable = ""
    check: str = "normalised"
    options: dict[str, dict[str, Any]] = {}
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: dict(_DECODING))
    system: str = ""
    samples: int = 1
    seed: int = 0
    level: float = 0.95
    max_failed: float = 0.02
    discriminator: bool = False

    def __post_init__(self) -> None:
        where = "[score]"
        if self.samples < 1:
            reject(where, "samples", "at least 1", got=self.samples)
        if self.samples > 1 and not self.temperature:
            hint = "set temperature in [score.parameters], or samples = 1"
            rule = "1 at temperature 0, where every answer is the same"
            reject(where, "samples", rule, got=self.samples, hint=hint)
        if not 0 < self.level < 1:
            reject(where, "level", "strictly between 0 and 1", got=self.level)
        if not 0 <= self.max_failed < 1:
            reject(where, "max_failed", "at least 0 and below 1", got=self.max_failed)
        for name in ("seed", "n"):
            if name in self.parameters:
                hint = "use seed and samples of [score]"
                reject(where, "parameters", f"without {name}", got=name, hint=hint)

    @property
    def temperature(self) -> float:
        """The decoding temperature; 1 where the parameters leave it to the model."""
        found = self.parameters.get("temperature", 1.0)
        return float(found) if isinstance(found, int | float) else 1.0
