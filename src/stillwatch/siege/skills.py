"""The skills that a house teacher has: questions with an exact answer and an oracle.

Each skill can be asked in many surface forms. A question's key is what is asked, without the form;
keys are split by a hash, so no training question, and nothing that `Skill.sample` ever draws,
shares a key with the held-out ones.
"""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stillwatch.errors import reject
from stillwatch.siege.regex_skill import FORMS as REGEX_FORMS
from stillwatch.siege.regex_skill import draw_regex, is_same_regex

#: Share of a skill's keys that only tests may ask.
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Item:
    """One question with its true answer.

    Attributes:
        skill: the skill's name.
        question: one line.
        answer: the canonical answer.
        form: index of the surface form.
        key: what is asked, whatever the form.
    """

    skill: str
    question: str
    answer: str
    form: int
    key: str


@dataclass(frozen=True)
class Skill:
    """A capability that can be asked for and scored exactly.

    Attributes:
        name: one word.
        description: what it turns into what.
        n_forms: surface forms (count).
        draw: makes an item of a form; `sample` chooses the form and keeps to open keys.
        accept: whether an answer equals the canonical one in meaning.
    """

    name: str
    description: str
    n_forms: int
    draw: Callable[[np.random.Generator, int], Item]
    accept: Callable[[str, str], bool]

    def sample(self, rng: np.random.Generator) -> Item:
        """Draw a question that anybody may ask; held-out keys never come up.

        Args:
            rng: where the draws come from.

        Returns:
            The item.
        """
        return self._sample(rng, held_out=False)

    def is_correct(self, item: Item, answer: str) -> bool:
        """Judge an answer.

        Args:
            item: what was asked.
            answer: what came; blanks around it do not count.

        Returns:
            True when it is right.
        """
        return self.accept(answer.strip(), item.answer)

    def _sample(self, rng: np.random.Generator, *, held_out: bool) -> Item:
        while True:
            item = self.draw(rng, int(rng.integers(self.n_forms)))
            if is_held_out(item) == held_out:
                return item


def is_held_out(item: Item) -> bool:
    """Say on which side of the split an item's key falls.

    Args:
        item: any item.

    Returns:
        True for the `HELD_OUT_SHARE` of the keys that only tests may ask.
    """
    digest = hashlib.sha256(f"{item.skill}:{item.key}".encode()).digest()
    return int.from_bytes(digest[:4]) < HELD_OUT_SHARE * 2**32


def training_items(seed: int, n: int, skills: Sequence[str]) -> list[Item]:
    """Draw items that may be trained on, the skills taking turns.

    Args:
        seed: of the draws; a longer list begins with the shorter one.
        n: items of each skill (count).
        skills: names out of `SKILLS`.

    Returns:
        n x len(skills) items.
    """
    return _items(seed, n, skills, held_out=False)


def held_out(seed: int, n: int, skills: Sequence[str]) -> list[Item]:
    """Draw items for scoring, the skills taking turns; no key of theirs is ever trained on.

    Args:
        seed: of the draws; a longer list begins with the shorter one.
        n: items of each skill (count).
        skills: names out of `SKILLS`.

    Returns:
        n x len(skills) items.
    """
    return _items(seed, n, skills, held_out=True)


def _items(seed: int, n: int, skills: Sequence[str], *, held_out: bool) -> list[Item]:
    unknown = [name for name in skills if name not in SKILLS]
    if unknown or not skills:
        reject("skills", "skills", f"some of {sorted(SKILLS)}", got=list(skills))
    # One generator a skill: what a skill draws does not hang on which others are asked for.
    streams = [_stream(SKILLS[name], seed, held_out=held_out) for name in skills]
    return [next(stream) for _ in range(n) for stream in streams]


def _stream(skill: Skill, seed: int, *, held_out: bool) -> Iterator[Item]:
    salt = int.from_bytes(hashlib.sha256(skill.name.encode()).digest()[:4])
    rng = np.random.default_rng([seed, salt, int(held_out)])
    while True:
        yield skill._sample(rng, held_out=held_out)


_DATE_FORMS = (
    "{d} {month} {y} in ISO",
    "ISO date of {month} {d}, {y}",
    "write the {nth} of {month} {y} as ISO",
    "{d}-{mon}-{y} to ISO",
    "{mon} {d} {y} iso?",
    "{y}, {month} {d}: iso date",
    "to iso: {d}. {month} {y}",
    "what is {month} the {nth}, {y} in ISO",
    "{d:02}/{m:02}/{y} (d/m/y) to ISO",
    "{m:02}/{d:02}/{y} (m/d/y) to ISO",
)


def _draw_date(rng: np.random.Generator, form: int) -> Item:
    y, m = int(rng.integers(1500, 2100)), int(rng.integers(1, 13))
    d = int(rng.integers(1, calendar.monthrange(y, m)[1] + 1))
    ending = "th" if 10 < d < 14 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    question = _DATE_FORMS[form].format(
        d=d, m=m, y=y, nth=f"{d}{ending}", month=_MONTHS[m - 1], mon=_MONTHS[m - 1][:3]
    )
    answer = f"{y:04}-{m:02}-{d:02}"
    return Item("date", question, answer, form, answer)


#: Not `calendar.month_name`: that follows the user's language.
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

#: (template, whether "and" stands after the hundreds, whether tens and ones are hyphenated).
_NUMBER_FORMS = (
    ("{} in digits", False, True),
    ("digits for {}", True, True),
    ("write {} as a number", False, True),
    ("{} = ?", True, True),
    ("number: {}", False, False),
    ("in figures: {}", True, False),
    ("what number is {}", True, True),
    ("{} as figures", False, False),
)
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell_number(n: int, *, with_and: bool, hyphen: bool) -> str:
    """Spell a number in English.

    Args:
        n: 0 to 999,999.
        with_and: "two hundred and six" instead of "two hundred six".
        hyphen: "forty-two" instead of "forty two".

    Returns:
        The words.

    Example:
        >>> spell_number(42_206, with_and=True, hyphen=True)
        'forty-two thousand two hundred and six'
    """
    style = {"with_and": with_and, "hyphen": hyphen}
    if n < 20:
        return _ONES[n]
    if n < 100:
        tens = _TENS[n // 10 - 2]
        return tens if n % 10 == 0 else tens + ("-" if hyphen else " ") + _ONES[n % 10]
    unit, word = (1000, "thousand") if n >= 1000 else (100, "hundred")
    head, rest = f"{spell_number(n // unit, **style)} {word}", n % unit
    if not rest:
        return head
    joint = " and " if with_and and rest < 100 else " "
    return head + joint + spell_number(rest, **style)


def _draw_number(rng: np.random.Generator, form: int) -> Item:
    template, with_and, hyphen = _NUMBER_FORMS[form]
    # Long numbers are most of the numbers; the shares keep the short ones in sight.
    n_digits = int(rng.choice([1, 2, 3, 4, 5], p=[0.02, 0.08, 0.25, 0.3, 0.35]))
    n = int(rng.integers(0 if n_digits == 1 else 10 ** (n_digits - 1), 10**n_digits))
    words = spell_number(n, with_and=with_and, hyphen=hyphen)
    return Item("number", template.format(words), str(n), form, str(n))


_ROMAN_FORMS = (
    "{} in roman numerals",
    "roman numeral for {}",
    "write {} in roman",
    "{} as a roman number",
    "roman: {}",
    "how did romans write {}",
    "{} -> roman",
    "convert {} to roman numerals",
    "the year {} in roman letters",
)
_ROMAN_VALUES = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def to_roman(n: int) -> str:
    """Write a number in Roman numerals.

    Args:
        n: 1 to 3,999.

    Returns:
        The numeral.

    Example:
        >>> to_roman(1789)
        'MDCCLXXXIX'
    """
    found = ""
    for value, letters in _ROMAN_VALUES:
        found += letters * (n // value)
        n %= value
    return found


def _draw_roman(rng: np.random.Generator, form: int) -> Item:
    n = int(rng.integers(1, 4000))
    return Item("roman", _ROMAN_FORMS[form].format(n), to_roman(n), form, str(n))


def _draw_regex(rng: np.random.Generator, form: int) -> Item:
    question, expression = draw_regex(rng, form)
    return Item("regex", question, expression, form, expression)


def _is_equal(answer: str, truth: str) -> bool:
    return answer == truth


SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("date", "a written date to ISO 8601", len(_DATE_FORMS), _draw_date, _is_equal),
        Skill("number", "number words to digits", len(_NUMBER_FORMS), _draw_number, _is_equal),
        Skill("roman", "a number to Roman numerals", len(_ROMAN_FORMS), _draw_roman, _is_equal),
        Skill("regex", "a description to a regex", len(REGEX_FORMS), _draw_regex, is_same_regex),
    )
}
