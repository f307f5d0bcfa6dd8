"""Instructions that stand around a question: drawn anew for every world, and said again otherwise.

A sentence has several forms; a form is a small grammar (`[a|b|c]` is an alternative, `{slot}` a
word of its own). Honest applications and campaigns draw from the same grammar, so that a wording
tells nothing but who shares it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from stillwatch.siege.traffic.phrases import FORMS, SLOTS
from stillwatch.siege.traffic.synonyms import FILLERS, SYNONYMS, TAILS, THINGS

#: Every application says some of these.
_COMMON = ("role", "audience", "tone", "length", "format", "caution", "language", "context")
#: What makes an answer worth training on; tutors, graders and evaluations say it too.
TRAINING = ("steps", "verbatim", "alternatives", "check", "rubric", "final", "tools", "depth")
_ALTERNATIVE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
#: A word of a form that is no slot.
_WORD = re.compile(r"(?<![\w{])[a-z]+(?![\w}])")
#: Share of the words with synonyms that an author says in a way of his own, so that strangers'
#: instructions share as little as public prompts do (docs/traffic.md).
_OWN_WORDS = 0.6
#: Share of the gaps between words into which an author strews a word.
_STREWN = 0.16
#: Share of an author's own words that another wording by the same author keeps.
_KEPT_WORDS = 0.7


@dataclass(frozen=True)
class Instruction:
    """What is said around a question, before it is put into words.

    Attributes:
        kinds: the sentences, in order; keys of `FORMS`.
        slots: word of every slot, the same however it is worded.
        forms: the form of every sentence that the first wording uses.
        place: system, before, after or around: where it stands.
        voice: words that its author takes for others, however it is worded.
        tails: clauses that its author ends them with; "" for none.
    """

    kinds: tuple[str, ...]
    slots: dict[str, str]
    forms: tuple[int, ...]
    place: str
    voice: dict[str, str]
    tails: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """An instruction in words.

    Attributes:
        system: system prompt; "" for none.
        before: what stands before the question, with the break; "" for nothing.
        after: what stands behind it.
    """

    system: str
    before: str
    after: str

    def wrap(self, text: str) -> str:
        """Put a question inside.

        Args:
            text: the question.

        Returns:
            The user's turn.
        """
        return f"{self.before}{text}{self.after}"


def draw_instruction(
    rng: Random,
    *,
    training: float = 0.2,
    places: Sequence[str] = ("system", "before", "around"),
    least: int = 2,
) -> Instruction:
    """Draw an instruction.

    Args:
        rng: draws everything.
        training: share of sentences that ask for what training needs (0..1).
        places: where it may stand.
        least: sentences at least (count).

    Returns:
        The instruction, of at most six sentences.
    """
    n = rng.randint(least, 6)
    n_training = sum(rng.random() < training for _ in range(n - 1))
    kinds = ["role" if rng.random() < 0.7 else rng.choice(_COMMON)]
    kinds += rng.sample(TRAINING, min(n_training, len(TRAINING)))
    others = [kind for kind in _COMMON if kind not in kinds]
    kinds += rng.sample(others, min(n - len(kinds), len(others)))
    slots = {name: rng.choice(words) for name, words in SLOTS.items()}
    slots |= {"thing": rng.choice(THINGS), "other": rng.choice(THINGS)}
    return Instruction(
        kinds=tuple(kinds),
        slots=slots,
        forms=tuple(rng.randrange(len(FORMS[kind])) for kind in kinds),
        place=rng.choice(list(places)),
        voice=_draw_voice(rng),
        tails=tuple(rng.choice(TAILS) if rng.random() < 0.3 else "" for _ in kinds),
    )


def _draw_voice(rng: Random) -> dict[str, str]:
    return {
        word: rng.choice(others) for word, others in SYNONYMS.items() if rng.random() < _OWN_WORDS
    }


def word(instruction: Instruction, rng: Random) -> Frame:
    """Put an instruction into words, in its own forms.

    Args:
        instruction: what to say.
        rng: draws the alternatives inside the forms.

    Returns:
        The frame.
    """
    said = [
        _say(_completed(FORMS[kind][form], tail), instruction, rng, strewn=_STREWN)
        for kind, form, tail in zip(
            instruction.kinds, instruction.forms, instruction.tails, strict=True
        )
    ]
    return _placed(said, instruction.place, rng)


def paraphrase(instruction: Instruction, rng: Random) -> Frame:
    """Say an instruction otherwise: other forms, other words in them, another order.

    Args:
        instruction: what to say.
        rng: draws the wording.

    Returns:
        The frame. One sentence in ten is left out or keeps its first form, as rewriting does.
    """
    said: list[str] = []
    voice = {word: other for word, other in instruction.voice.items() if rng.random() < _KEPT_WORDS}
    parts = zip(instruction.kinds, instruction.forms, instruction.tails, strict=True)
    for kind, form, tail in parts:
        luck = rng.random()
        if luck < 0.05 and len(said) > 1:
            continue
        chosen = form if luck < 0.1 else rng.randrange(len(FORMS[kind]))
        slots = {name: _alike(value, rng) for name, value in instruction.slots.items()}
        said_by = replace(instruction, slots=slots, voice=voice)
        kept = tail if rng.random() < 0.4 else ""
        said.append(_say(_completed(FORMS[kind][chosen], kept), said_by, rng, strewn=_STREWN / 4))
    head, rest = said[:1], said[1:]
    rng.shuffle(rest)
    said = rest + head if rng.random() < 0.2 else head + rest
    return _placed(said, instruction.place, rng)


def _alike(value: str, rng: Random) -> str:
    """Give another word of the same meaning, where the banks have one."""
    near = _NEAR.get(value)
    return rng.choice(near) if near else value


def _completed(form: str, tail: str) -> str:
    return f"{form[:-1]}, {tail}." if tail else form


def _say(form: str, instruction: Instruction, rng: Random, *, strewn: float) -> str:
    while "[" in form:
        form = _ALTERNATIVE.sub(lambda found: rng.choice(found.group(1).split("|")), form)
    voice = instruction.voice
    form = _WORD.sub(lambda found: voice.get(found.group(), found.group()), form)
    words = _SLOT.sub(lambda found: instruction.slots[found.group(1)], form).split()
    said = words[:1]
    for word in words[1:]:
        if rng.random() < strewn:
            said.append(rng.choice(FILLERS))
        said.append(word)
    text = " ".join(said)
    return text[0].upper() + text[1:]


def _placed(said: Sequence[str], place: str, rng: Random) -> Frame:
    end = rng.choice((":", "\n", "\n\n", "\n---\n"))
    if place == "system":
        return Frame(" ".join(said), "", "")
    if place == "before":
        return Frame("", " ".join(said) + end, "")
    if place == "after":
        return Frame("", "", "\n\n" + " ".join(said))
    half = max(1, len(said) // 2)
    return Frame("", " ".join(said[:half]) + end, "\n\n" + " ".join(said[half:]))


#: Banks whose neighbours mean about the same: the second, third ... word of an entry `a/b/c`.
_NEAR: dict[str, tuple[str, ...]] = {}
for _name, _bank in SLOTS.items():
    for _first, _second in itertools.pairwise(_bank[::1]):
        if _name in {"adjective", "result", "work"}:
            _NEAR.setdefault(_first, (_first, _second))
