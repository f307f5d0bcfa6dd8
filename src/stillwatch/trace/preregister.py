"""The analysis plan: whatever could be chosen later to please, fixed before the first question.

A plan names the suspects, the questions, every test with the draw it rests on, how often it may be
looked at, and the error rates. Its digest is published or time-stamped; a verdict then counts what
was planned and nothing else. What the plan leaves out may still be looked at, as a lead for the
next plan.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from stillwatch.errors import ConfigError, InvalidInputError, reject
from stillwatch.record.disk import replace_file
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.verdicts.finding import DRAWS

_PLAN = b"stillwatch analysis plan 1\0"
_PROMPTS = b"stillwatch prompts 1\0"
#: The claim of a test that is not about one campaign.
ANY_CLAIM = "our answers"


class PlannedTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test that will be run on every suspect.

    Attributes:
        test: as findings name it.
        randomisation: the draw that it rests on: `key:ID`, `canary:ID` or `withheld:ID`.
        claim: what a positive result says the suspect learned from: a campaign, or all our answers.
        looks: how many times its result may be looked at, at sizes fixed beforehand; 0 = at any
            time, for tests whose findings are `sequential`.
        needed: units that the power plan asks for, or None.
    """

    test: str
    randomisation: str
    claim: str = ANY_CLAIM
    looks: int = 1
    needed: int | None = None

    def __post_init__(self) -> None:
        """Refuse a test that rests on no draw of ours.

        Raises:
            InvalidInputError: the randomisation is none of ours, or `looks` is negative.
        """
        kind, _, identity = self.randomisation.partition(":")
        if kind not in DRAWS or not identity:
            rule = f"one of {', '.join(f'{one}:ID' for one in DRAWS)}"
            hint = "similarity is reported beside a verdict and needs no plan"
            reject(f"test {self.test}", "randomisation", rule, got=self.randomisation, hint=hint)
        if self.looks < 0:
            reject(f"test {self.test}", "looks", "at least 0", got=self.looks)


class AuditPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the pipeline's own error is looked for; less than this caps a verdict.

    Attributes:
        innocents: models that never saw our answers, put through the same tests (count).
        decoys: draws that nobody used, tried on the suspect's own answers (count, for each test).
    """

    innocents: int = 20
    decoys: int = 9_999


class AnalysisPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What will be asked, tested and said.

    Attributes:
        title: for the reader.
        suspects: every model that will be accused or cleared.
        tests: every test that counts.
        prompts_sha256: `hash_prompts` of the questions in their order, or "" where none are asked.
        n_prompts: how many (count).
        sampling: temperature, number of samples, length: how the suspect is asked.
        stopping: when the asking ends, in words.
        proved: chance of any false accusation that "proved" allows.
        strong: the same for "strong".
        correction: `holm` bounds the chance of any false accusation, `e-bh` (for screening many
            suspects) the expected share of false ones.
        hedge: share of the stake that each draw's evidence multiplies; the rest is kept, so that a
            draw that shows nothing costs at most the factor 1 - hedge. Unused with one draw.
        audit: how much of the pipeline's own error is looked for.
        commitments: randomisation -> hash that was published before anything was served.
        tool: name and version of what computes.
    """

    title: str
    suspects: tuple[str, ...]
    tests: tuple[PlannedTest, ...]
    prompts_sha256: str = ""
    n_prompts: int = 0
    sampling: dict[str, Any] = msgspec.field(default_factory=dict)
    stopping: str = "after the last planned question"
    proved: float = 1e-6
    strong: float = 1e-3
    correction: Literal["holm", "e-bh"] = "holm"
    hedge: float = 0.5
    audit: AuditPlan = AuditPlan()
    commitments: dict[str, str] = msgspec.field(default_factory=dict)
    tool: str = ""

    def __post_init__(self) -> None:
        """Refuse a plan that leaves something open.

        Raises:
            InvalidInputError: no suspect or test, one named twice, or a rate out of range.
        """
        where = "AnalysisPlan"
        for name, values in (("suspects", self.suspects), ("tests", self.tests)):
            if not values:
                reject(where, name, "at least one", got=0)
            twice = [value for value, n in Counter(map(repr, values)).items() if n > 1]
            if twice:
                reject(where, name, "all different", got=twice[0])
        keys = Counter((t.claim, t.randomisation, t.test) for t in self.tests)
        if max(keys.values()) > 1:
            rule = "one for each claim, draw and name"
            reject(where, "tests", rule, got=keys.most_common(1)[0][0])
        if not 0 < self.proved <= self.strong < 1:
            rule = f"above 0 and at most strong ({self.strong})"
            reject(where, "proved", rule, got=self.proved)
        if not 0 < self.hedge <= 1:
            reject(where, "hedge", "above 0 and at most 1", got=self.hedge)

    @property
    def claims(self) -> tuple[str, ...]:
        """What a suspect may be found to have learned from, in the plan's order."""
        return tuple(dict.fromkeys(test.claim for test in self.tests))

    @property
    def n_accusations(self) -> int:
        """How many accusations the error rates are shared by: suspects times claims."""
        return len(self.suspects) * len(self.claims)

    @property
    def digest(self) -> str:
        """SHA-256 of everything above: publish or time-stamp it before the first question."""
        return hashlib.sha256(_PLAN + canonical_json(self).encode()).hexdigest()


def hash_prompts(prompts: Iterable[str]) -> str:
    """Hash questions in their order.

    Args:
        prompts: the questions.

    Returns:
        SHA-256 in hex; another order or another split of the same text gives another hash.
    """
    digest = hashlib.sha256(_PROMPTS)
    for prompt in prompts:
        body = prompt.encode()
        digest.update(len(body).to_bytes(8, "big") + body)
    return digest.hexdigest()


def check_prompts(plan: AnalysisPlan, prompts: Iterable[str]) -> None:
    """Make sure that the questions asked are the planned ones.

    Args:
        plan: the plan.
        prompts: the questions asked, in order.

    Raises:
        InvalidInputError: they are not.
    """
    got = hash_prompts(prompts)
    if got != plan.prompts_sha256:
        hint = "a verdict counts the planned questions in the planned order, all of them"
        reject(
            "check_prompts",
            "the prompts' hash",
            f"the plan's {plan.prompts_sha256}",
            got=got,
            hint=hint,
        )


def read_plan(path: Path) -> AnalysisPlan:
    """Read a plan.

    Args:
        path: a `.toml` or a JSON file.

    Returns:
        The plan.

    Raises:
        ConfigError: the file is no plan; the message names the field.
    """
    try:
        if path.suffix == ".toml":
            return msgspec.convert(tomllib.loads(path.read_text("utf-8")), type=AnalysisPlan)
        return msgspec.json.decode(path.read_bytes(), type=AnalysisPlan)
    except (msgspec.MsgspecError, InvalidInputError, ValueError, OSError) as error:
        message = f"{path}: the file must be an analysis plan: {error}"
        raise ConfigError(message) from error


def write_plan(plan: AnalysisPlan, path: Path) -> str:
    """Write a plan as JSON.

    Args:
        plan: the plan.
        path: the file, replaced at once.

    Returns:
        The plan's digest, to be published or time-stamped.
    """
    replace_file(path, msgspec.json.format(msgspec.json.encode(plan, order="sorted")) + b"\n")
    return plan.digest
