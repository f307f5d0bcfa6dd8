"""The skills: true answers, honest splits, forms that differ."""

import datetime
import re
from collections import Counter

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.siege.skills import (
    HELD_OUT_SHARE,
    SKILLS,
    Item,
    held_out,
    is_held_out,
    spell_number,
    to_roman,
    training_items,
)

NAMES = sorted(SKILLS)
VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def some(name: str, n: int = 2000) -> list[Item]:
    """Items that anybody may ask."""
    rng = np.random.default_rng(4)
    return [SKILLS[name].sample(rng) for _ in range(n)]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_asked(name: str) -> None:
    """All surface forms come up evenly, a question is one short line, its answer is right."""
    skill, items = SKILLS[name], some(name)
    counts = Counter(item.form for item in items)
    assert set(range(skill.n_forms)) == set(counts)
    assert skill.n_forms >= 6
    assert min(counts.values()) > 2000 / skill.n_forms / 2
    for item in items:
        assert item.skill == name
        assert item.question == item.question.strip()
        assert item.question.isascii()
        assert item.question.isprintable()
        assert len(item.question) <= 70
        assert 1 <= len(item.answer) <= 36
        assert skill.is_correct(item, item.answer)
        assert skill.is_correct(item, f" {item.answer}\n")
        assert not skill.is_correct(item, "")


@pytest.mark.parametrize("name", NAMES)
def test_no_held_out_key_is_ever_drawn(name: str) -> None:
    """What tests ask, nobody else asks: neither in training nor through `sample`."""
    tested = {item.key for item in held_out(0, 600, [name])}
    trained = {item.key for item in training_items(0, 4000, [name])}
    asked = {item.key for item in some(name)}
    assert set() == tested & (trained | asked)


def test_the_split_is_by_key() -> None:
    """Every form of a key falls on one side, and about a tenth of the keys on the tests'."""
    items = [Item("roman", f"q{form}", to_roman(n), form, str(n)) for n in range(1, 4000)
             for form in (0, 1)]  # fmt: skip
    sides = {item.key: is_held_out(item) for item in items}
    assert [sides[item.key] for item in items] == [is_held_out(item) for item in items]
    assert abs(np.mean(list(sides.values())) - HELD_OUT_SHARE) < 0.02


def test_lists_are_nested_and_repeat() -> None:
    """A longer list begins with the shorter; a skill's items do not hang on its neighbours."""
    long, short = training_items(5, 50, NAMES), training_items(5, 20, NAMES)
    assert long[: len(short)] == short
    assert [len(long) // 4] * 4 == [Counter(i.skill for i in long)[name] for name in NAMES]
    alone = training_items(5, 20, ["roman"])
    assert alone == [item for item in short if item.skill == "roman"]
    assert short != training_items(6, 20, NAMES)


def test_unknown_skills_are_refused() -> None:
    """The message lists the skills that there are."""
    with pytest.raises(InvalidInputError, match=r"some of .*'date', 'number'"):
        training_items(0, 1, ["latin"])
    with pytest.raises(InvalidInputError, match="skills must be"):
        held_out(0, 1, [])


def test_dates_against_the_calendar() -> None:
    """Each answer is the date that the question's words name, by another reader of dates."""
    shapes = {
        0: "%d %B %Y in ISO", 1: "ISO date of %B %d, %Y", 3: "%d-%b-%Y to ISO",
        4: "%b %d %Y iso?", 5: "%Y, %B %d: iso date", 6: "to iso: %d. %B %Y",
        8: "%d/%m/%Y (d/m/y) to ISO", 9: "%m/%d/%Y (m/d/y) to ISO",
    }  # fmt: skip
    for item in some("date"):
        if item.form in shapes:
            when = datetime.datetime.strptime(item.question, shapes[item.form])  # noqa: DTZ007 - a date
            assert when.date().isoformat() == item.answer
        else:
            day = datetime.date.fromisoformat(item.answer)
            nth = re.search(r"(\d+)(st|nd|rd|th)\b", item.question)
            assert nth is not None
            assert str(day.day) == nth[1]
            teens = {11: "th", 12: "th", 13: "th"}
            expected = teens.get(day.day, {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th"))
            assert expected == nth[2]
            assert f"{day:%B}" in item.question
            assert str(day.year) in item.question


def test_number_words_read_back() -> None:
    """Every number's words, read by a reader of their own, are the number."""
    words = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    words += " fifteen sixteen seventeen eighteen nineteen"
    value = {word: i for i, word in enumerate(words.split())}
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    value |= {word: 10 * i for i, word in enumerate(tens, start=2)}
    rng = np.random.default_rng(0)
    for n in [*range(1200), *rng.integers(1000, 1_000_000, size=2000)]:
        for with_and, hyphen in ((True, True), (False, True), (True, False)):
            spelled = spell_number(int(n), with_and=with_and, hyphen=hyphen)
            total = part = 0
            for word in spelled.replace("-", " ").split():
                if word == "thousand":
                    total, part = total + 1000 * part, 0
                elif word == "hundred":
                    part *= 100
                elif word != "and":
                    part += value[word]
            assert n == total + part, spelled
            assert with_and or " and " not in spelled


def test_roman_numerals_read_back() -> None:
    """Every numeral, read by a reader of its own, is the number, and is the shortest form."""
    for n in range(1, 4000):
        letters = to_roman(n)
        values = [VALUES[letter] for letter in letters]
        after = [*values[1:], 0]
        assert n == sum(-v if v < w else v for v, w in zip(values, after, strict=True))
        assert not re.search(r"IIII|XXXX|CCCC|VV|LL|DD", letters)
