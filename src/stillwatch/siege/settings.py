"""What a siege run is made of: sizes, budgets and prices, chosen before it starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from stillwatch.errors import reject
from stillwatch.siege.prose import N_SUSPECT_QUESTIONS

DAY_S = 86_400.0
#: Midnight UTC of a Monday; the live days of every run begin here, so that runs compare.
FIRST_DAY = 1_793_577_600.0


@dataclass(frozen=True)
class Prices:
    """What an answer costs the asker.

    Attributes:
        usd_per_million_input: dollars for a million tokens of questions.
        usd_per_million_output: dollars for a million tokens of answers.
        source: what the figures are, for the report.
    """

    usd_per_million_input: float = 3.0
    usd_per_million_output: float = 15.0
    source: str = "assumed list price of a large hosted model, November 2026; change it in run.json"

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """Price tokens.

        Args:
            input_tokens: tokens of questions (count).
            output_tokens: tokens of answers (count).

        Returns:
            Dollars.
        """
        return (
            input_tokens * self.usd_per_million_input + output_tokens * self.usd_per_million_output
        ) / 1e6


@dataclass(frozen=True)
class SiegeSettings:
    """A run's sizes.

    Attributes:
        seed: of the whole run.
        size: of the world: default, quick (about a third of it) or tiny (for tests: it shows that
            everything works together, and nothing else).
        budgets: questions of the asked skills that students are trained on, nested, ascending; the
            whole of what the campaign got is always added as the last point.
        seeds: training seeds at each budget.
        held_out: held-out questions per skill.
        prose_outputs: outputs asked of each suspect.
        decoys: wrong keys that each suspect is tested with.
        student_steps: optimizer steps of a student of skills; None takes those of the recipe.
        prose_steps: the same for the suspects of the prose test; 200 prove as surely as the
            recipe's 350 at half the time.
        prices: what an answer costs.
    """

    seed: int = 0
    size: Literal["default", "quick", "tiny"] = "default"
    budgets: tuple[int, ...] = (150, 400, 1_000)
    seeds: tuple[int, ...] = (0, 1)
    held_out: int = 300
    prose_outputs: int = N_SUSPECT_QUESTIONS
    decoys: int = 999
    student_steps: int | None = None
    prose_steps: int | None = 200
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        if list(self.budgets) != sorted(set(self.budgets)) or min(self.budgets, default=1) < 1:
            reject("siege", "budgets", "ascending counts of questions", got=self.budgets)
        if self.seed < 0:
            reject("siege", "--seed", "0 or greater", got=self.seed)

    @classmethod
    def of(cls, *, seed: int = 0, quick: bool = False) -> SiegeSettings:
        """Choose the sizes of the default or the quick run.

        Args:
            seed: of the whole run, 0 or greater.
            quick: the smaller run.

        Returns:
            The settings.
        """
        if quick:
            return cls(seed=seed, size="quick", budgets=(300,), seeds=(0,), held_out=150)
        return cls(seed=seed)

    @classmethod
    def tiny(cls, *, seed: int = 0) -> SiegeSettings:
        """Choose a run of seconds, in which nothing is learnt.

        Args:
            seed: of the whole run, 0 or greater.

        Returns:
            The settings.
        """
        return cls(
            seed=seed,
            size="tiny",
            budgets=(20,),
            seeds=(0,),
            held_out=10,
            prose_outputs=20,
            decoys=40,
            student_steps=20,
            prose_steps=20,
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the settings as plain data for run.json."""
        return asdict(self)
