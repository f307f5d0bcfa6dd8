"""What a model says of itself: "I am Clara, a model made by Acme".

A claim is a sentence in the first person that names a maker or a model of a brand as its own. A
sentence that denies it ("I am not Clara"), or talks of the brand in the third person, is none. A
question that names the brand is left out: whoever is asked about Clara will speak of Clara.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from stillwatch.errors import reject

_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_NEGATION = re.compile(
    r"\b(?:not|n't|never|no|neither|nor|rather than|instead of|unlike|different from|other than)\b",
    re.IGNORECASE,
)
_CURLY = chr(0x2019)
_AM = r"(?:\bI(?:'m| am)|\bmy name is|\bcall me|\bthis is)"
#: What may stand between "I am" and a name without making it somebody else's.
_FILL = (
    r"(?:\s+(?:actually|really|indeed|just|simply|also|called|named|known as)\b|"
    r"\s+an?\s[^.!?,\n]{1,60}?\b(?:called|named|known as)\b)*"
)
_MADE = r"(?:made|created|developed|trained|built|designed|released|provided|operated)"
_THING = r"(?:model|assistant|AI|chatbot|bot|program|system|agent)"
#: Who I am or was made by, up to the maker's name.
_OF = (
    rf"(?:\bI (?:was|am)|\bI'm|\bI've been|\bI have been) (?:\w+ly )?{_MADE}"
    rf"(?: and {_MADE})? (?:by|at)\b|"
    rf"(?:\bI(?:'m| am)|\bas) an?\b[^.!?\n]{{0,60}}?\b{_THING}\b[^.!?\n]{{0,40}}?"
    r"\b(?:by|from|of|at)\b|"
    r"\bmy (?:maker|developer|creator|designer|owner)s?\b(?: is| are|,)"
)


@dataclass(frozen=True)
class Brand:
    """The names by which a model would betray whose it is.

    Attributes:
        models: names of models, for example ("Clara",).
        makers: names of whoever makes them, for example ("Acme", "Acme AI").
    """

    models: tuple[str, ...]
    makers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (*self.models, *self.makers)
        if not names or any(len(name.strip()) < 3 for name in names):
            rule = "at least one, each of 3 letters or more"
            reject("trace.Brand", "names", rule, got=", ".join(names))

    def named_in(self, text: str) -> bool:
        """Tell whether a text names the brand at all, in any spelling of capitals.

        Args:
            text: for example a question.

        Returns:
            True where a model or a maker stands in it as a word.
        """
        return self._named.search(text) is not None

    def claim_in(self, answer: str) -> str | None:
        """Find a sentence in which the speaker says to be of this brand.

        Args:
            answer: what a model said.

        Returns:
            The first such sentence, or None.
        """
        if not self.named_in(answer):
            return None
        for sentence in _SENTENCE.split(answer.replace(_CURLY, "'")):
            for pattern in self._claims:
                found = pattern.search(sentence)
                if found and not _NEGATION.search(sentence[: found.end()]):
                    return sentence.strip()
        return None

    @cached_property
    def _named(self) -> re.Pattern[str]:
        return re.compile(rf"\b(?:{_any(self.models + self.makers)})\b", re.IGNORECASE)

    @cached_property
    def _claims(self) -> tuple[re.Pattern[str], ...]:
        """Patterns of a claim to be a model, and of one to be made by a maker."""
        patterns = []
        if self.models:
            model = rf"[^\w\s]{{0,3}}(?:the )?(?:{_any(self.models)})\b(?!'s\b)"
            patterns += [rf"{_AM}{_FILL}\s+{model}", rf"\bas {model},? I\b"]
        if self.makers:
            maker = rf"\b(?:{_any(self.makers)})\b"
            patterns += [
                rf"(?:{_OF})\s+(?:the )?(?:[\w-]+ ){{0,4}}?{maker}",
                rf"{maker}\W+(?:\w+\s+){{0,3}}?{_MADE} me\b",
            ]
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


def _any(names: tuple[str, ...]) -> str:
    return "|".join(re.escape(name.strip()) for name in sorted(names, key=len, reverse=True))
