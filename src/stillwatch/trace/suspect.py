"""Asking a suspect: why, which questions, and whether they are the ones that were pre-registered.

A suspect is a file of outputs, an endpoint, or a local model folder. The last two are asked; what
is asked, and how, was fixed in the analysis plan beforehand, so that nobody can choose the
questions by the answers. How the asking goes about is not known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillwatch.errors import ConfigError, InvalidInputError, reject
from stillwatch.record.exchange import canonical_json
from stillwatch.trace.canaries.canary import read_canaries
from stillwatch.trace.preregister import AnalysisPlan, check_prompts

_PURPOSE = b"stillwatch purpose 1\0"


class Purpose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[purpose]` table: on what grounds a suspect is asked; kept with every answer.

    Asking a model in order to test it takes nothing from its maker's model into another one, so it
    needs no permission to distil. Its provider's terms of use still hold for whoever asks.

    Attributes:
        statement: what is to be found out, and why this model is suspected.
        by: who asks.
        reference: where it was decided: a ticket, a letter, counsel's note.
    """

    statement: str
    by: str
    reference: str = ""

    def __post_init__(self) -> None:
        """Refuse a purpose that says nothing.

        Raises:
            InvalidInputError: statement or name is empty.
        """
        for name in ("statement", "by"):
            if not getattr(self, name).strip():
                reject("[purpose]", name, "a line that says it", got="")

    @property
    def purpose_id(self) -> str:
        """SHA-256 of the table, 24 hex digits: a tag of every exchange."""
        return hashlib.sha256(_PURPOSE + canonical_json(self).encode()).hexdigest()[:24]


class PromptsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[prompts]` table: what a suspect is asked.

    Attributes:
        file: questions, one a line: plain text, or JSON objects with `question` and perhaps
            `question_id`; or canaries, whose probes are asked.
        samples: answers to each question (count).
    """

    file: str
    samples: int = 1

    def __post_init__(self) -> None:
        """Refuse to ask nothing.

        Raises:
            InvalidInputError: no file, or fewer than one sample.
        """
        if not self.file:
            reject("[prompts]", "file", "a file of questions", got="")
        if self.samples < 1:
            reject("[prompts]", "samples", "at least 1", got=self.samples)


class Prompt(msgspec.Struct, frozen=True):
    """One question for a suspect.

    Attributes:
        question: as it is asked.
        question_id: its name in the plan; "" takes its place in the file, from 1.
    """

    question: str
    question_id: str = ""


def read_prompts(path: Path) -> list[Prompt]:
    """Read what a suspect is asked.

    Args:
        path: as `PromptsTable.file` says.

    Returns:
        The questions in their order, each with a name.

    Raises:
        InvalidInputError: there are none, a line is no question, or two share a name or a text.
    """
    found = [
        msgspec.structs.replace(one, question_id=one.question_id or str(number))
        for number, one in enumerate(_prompts(path), start=1)
    ]
    if not found:
        reject(str(path), "the file", "at least one question", got=0)
    for name in ("question_id", "question"):
        values = [getattr(one, name) for one in found]
        if len(set(values)) < len(values):
            hint = "write samples = in [prompts] to ask a question several times"
            reject(str(path), name, "another in every line", got="one twice", hint=hint)
    return found


def check_registered(
    plan: AnalysisPlan, suspect: str, prompts: Sequence[Prompt], *, asked: Mapping[str, Any]
) -> None:
    """Make sure that a suspect is asked what the plan said, the way it said.

    Args:
        plan: as it was published or time-stamped.
        suspect: the name by which the plan knows the suspect.
        prompts: the questions, in order.
        asked: sampling parameters, and `samples`; the plan may fix any of them.

    Raises:
        ConfigError: the plan names no such suspect, or other sampling.
        InvalidInputError: the questions are others, or in another order.
    """
    if suspect not in plan.suspects:
        message = f"the plan names {', '.join(plan.suspects)}, not {suspect!r}"
        raise ConfigError(message, hint="give the suspect the plan's name in `name`")
    check_prompts(plan, (one.question for one in prompts))
    for name, value in plan.sampling.items():
        if asked.get(name) != value:
            message = f"the plan's sampling: {name} must be {value!r}, got {asked.get(name)!r}"
            raise ConfigError(message, hint="what is asked otherwise is no evidence for this plan")


def _prompts(path: Path) -> Iterable[Prompt]:
    lines = _lines(path)
    if not lines or not lines[0][1].lstrip().startswith("{"):
        return [Prompt(line.strip()) for _, line in lines]
    if '"variants"' in lines[0][1]:
        return [Prompt(one.probe, one.canary_id) for one in read_canaries(path)]
    return _decoded(path, lines)


def _decoded(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Prompt]:
    for number, line in lines:
        try:
            one = msgspec.json.decode(line, type=Prompt)
        except msgspec.MsgspecError as error:
            message = f"{path}:{number}: the line must be an object with `question`: {error}"
            raise InvalidInputError(message) from error
        if not one.question.strip():
            reject(f"{path}:{number}", "question", "not empty", got="")
        yield one


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path}: the questions must be UTF-8"
        raise InvalidInputError(message) from error
    except OSError as error:
        message = f"{path}: the questions cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    return [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
