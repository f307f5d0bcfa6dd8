"""English to regex: the expressions mean what the words say, and equals are told from others."""

import re
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.siege.regex_skill import FORMS, draw_regex, is_same_regex, meaning

COUNTS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
          "eight": 8}  # fmt: skip
SAMPLE = {"digit": "7", "capital letter": "Q", "small letter": "q", "letter": "k", "vowel": "e",
          "word character": "_", "underscore": "_", "comma": ",", "dot": ".", "colon": ":",
          "dash": "-", "slash": "/"}  # fmt: skip


def spoken(question: str, form: int) -> list[tuple[str, int, int]]:
    """Read a description by a reader of its own: (a character of the class, least, most)."""
    before, after = FORMS[form][0].split("{}")
    body = question.removeprefix(before).removesuffix(after)
    found = []
    for words in re.split(", then | and then | followed by | plus |, ", body):
        count, kind = words.split(" ", 1)
        if count == "at":
            _, low, kind = words.split(" ", 2)
            low, kind = kind.split(" ", 1)
            least, most = COUNTS[low], 99
        elif kind.startswith("to "):
            _, high, kind = kind.split(" ", 2)
            least, most = COUNTS[count], COUNTS[high]
        elif count in {"some", "any"}:
            least, most = int(count == "some"), 99
        elif count == "maybe":
            least, most, kind = 0, 1, kind.split(" ", 1)[1]
        else:
            least = most = COUNTS[count]
        singular = {"dashes": "dash", "slashes": "slash"}.get(kind, kind.removesuffix("s"))
        found.append((SAMPLE[singular], least, most))
    return found


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_expressions_match_what_the_words_say(form: int) -> None:
    """The least text that the words allow is matched; a run too short or too long is not."""
    rng = np.random.default_rng(form)
    for _ in range(150):
        question, expression = draw_regex(rng, form)
        pieces = spoken(question, form)
        pattern = re.compile(expression, re.ASCII)
        least = "".join(char * low for char, low, _ in pieces)
        assert pattern.fullmatch(least), question
        for i, (_, low, high) in enumerate(pieces):
            others = {other for j, (other, _, _) in enumerate(pieces) if j != i}
            if others & set("q7Qke_"):  # a neighbour's class may take the surplus
                continue
            for n in (low - 1, high + 1) if high < 99 else (low - 1,):
                if n >= 0:
                    run = [c * (n if j == i else k) for j, (c, k, _) in enumerate(pieces)]
                    assert not pattern.fullmatch("".join(run)), question


def test_anchors_follow_the_form() -> None:
    """Lines that start, end or consist of something are tied there, and nothing else is."""
    rng = np.random.default_rng(0)
    for form, (template, start, end, _) in enumerate(FORMS):
        _, expression = draw_regex(rng, form)
        assert ("line" in template) == bool(start or end)
        assert bool(start) == expression.startswith("^")
        assert bool(end) == expression.endswith("$")


def test_questions_are_many() -> None:
    """Most questions of a form are asked once in a thousand."""
    rng = np.random.default_rng(1)
    counts = Counter(draw_regex(rng, 0)[0] for _ in range(1000))
    assert len(counts) > 750


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\d\d", r"\d{2}"), (r"[0-9]", r"\d"), (r"[a-z][a-z]*", "[a-z]+"), ("a{1,}", "a+"),
        ("a{0,1}", "a?"), ("a{,3}", "a{0,3}"), (r"\.", "[.]"), (r"\-", "-"), (r"\/", "/"),
        ("[A-Za-z]", "[a-zA-Z]"), (r"[\w]", r"\w"), ("[A-Za-z0-9_]", r"\w"), ("[uoiea]", "[aeiou]"),
        ("^a$", "^a{1}$"), ("a{2}a{1,2}", "a{3,4}"), ("a{2,2}", "aa"), (r"\$", "[$]"),
        ("ab{0}", "a"),
    ],
)  # fmt: skip
def test_equals(left: str, right: str) -> None:
    """Two spellings of one expression are the same, either way round."""
    assert is_same_regex(left, right)
    assert is_same_regex(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\d{2}", r"\d{3}"), ("[a-z]", "[A-Z]"), ("a+", "a*"), ("ab", "ba"), ("^a", "a"),
        ("a$", "a"), (r"a\$", "a$"), (".", r"\."), (r"\w", "[A-Za-z0-9]"), ("a", ""), ("(a)", "a"),
        ("a|b", "[ab]"), ("[^a]", "[a]"), ("a{2,1}", "a{2}"), ("a{", "a"), ("[a", "a"),
        ("a+?", "a+"),
        ("\\", "a"), (r"\s", " "), ("{2}", "2"), ("a{}", "a"), ("[]", "a"),
    ],
)  # fmt: skip
def test_others(left: str, right: str) -> None:
    """Expressions that differ, or lie beyond the fragment, are not called equal."""
    assert not is_same_regex(left, right)
    assert not is_same_regex(right, left)


@settings(max_examples=600)
@given(st.text(alphabet=r"ab1[]-{},\d.^$+*?", max_size=12), st.text(alphabet="ab1", max_size=6))
def test_readings_are_sound(expression: str, text: str) -> None:
    """Whatever can be read, rewritten from its meaning, matches the same text."""
    found = meaning(expression)
    if found is None:
        return
    body = "".join(
        f"[{''.join(re.escape(c) for c in sorted(chars))}]{{{low},{'' if high is None else high}}}"
        for chars, low, high in found.pieces
    )
    rewritten = "^" * found.at_start + body + "$" * found.at_end
    with warnings.catch_warnings():
        # Python warns of what "[[" may come to mean one day; today it means what we read.
        warnings.simplefilter("ignore", FutureWarning)
        truth = re.compile(expression, re.ASCII)
    assert bool(truth.search(text)) == bool(re.search(rewritten, text))
