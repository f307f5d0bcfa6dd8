"""Texts, numbers and choices: what counts as the same."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.distill.checks import KINDS, Check, Row, check_of
from stillwatch.distill.checks.choice import chosen, options_of
from stillwatch.distill.checks.numeric import result_of
from stillwatch.distill.items import Item
from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.model.fake import FakeModel
from stillwatch.record.exchange import Message

ITEM = Item(item_id="q", messages=())
METALS = Item(
    item_id="m",
    messages=(Message("user", "Which is a metal?\nA) iron\nB) iron oxide\nC) salt\nD. water"),),
)


def said(kind: str, truth: str | None, answer: str, **options: Any) -> bool | None:
    """The verdict of a fresh check."""
    return check_of(kind, options)(truth, answer, ITEM).correct


@pytest.mark.parametrize("kind", KINDS)
async def test_every_check(kind: str) -> None:
    """Every kind is a check, knows its name, and is called in three ways with one outcome."""
    judge = FakeModel(lambda question: "no verdict")
    check = check_of(kind, judge=judge)
    assert isinstance(check, Check)
    assert kind == check.kind
    row = Row(None, "anything", ITEM)
    assert [None, None] == [
        (await check.judge(*row)).correct,
        (await check.judge_many([row]))[0].correct,
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "judge"])
def test_without_truth(kind: str) -> None:
    """Without a truth nothing is right or wrong."""
    assert None is said(kind, None, "anything")


def test_unknown() -> None:
    """Unknown kinds and options are told with the known ones."""
    with pytest.raises(InvalidInputError, match="one of exact, normalised, numeric, choice, regex"):
        check_of("guess")
    with pytest.raises(ConfigError, match="check numeric: Object contains unknown field `near`"):
        check_of("numeric", {"near": 1})
    with pytest.raises(InvalidInputError, match="judge must be a model"):
        check_of("judge")
    with pytest.raises(ConfigError, match="pattern must be a regular expression"):
        check_of("exact", {"pattern": "("})
    with pytest.raises(InvalidInputError, match="letters must be letters"):
        check_of("choice", {"letters": "1234"})


def test_exact() -> None:
    """Exact is letter by letter, but for space at the ends."""
    assert [True, False, False] == [
        said("exact", "Paris", a) for a in ("Paris\n", "paris", "Paris.")
    ]


@pytest.mark.parametrize(
    "answer",
    ["  paris. ", "**Paris**", "“Paris”", "PARIS!", "Ｐａｒｉｓ", "`Paris`", "```\nParis\n```"],  # noqa: RUF001 - wide letters are the point
)
def test_normalised(answer: str) -> None:
    """Case, marks at the ends, emphasis, fences and width do not matter."""
    assert True is said("normalised", "Paris", answer)


def test_text_options() -> None:
    """The last line, a pattern, several truths and articles are options."""
    assert said("exact", "12", "so it is\n12\n\n", last_line=True)
    assert said("normalised", "Paris", "answer: Rome\nanswer: paris", pattern=r"answer: (.*?)$")
    assert False is said("normalised", "Paris", "Rome", pattern=r"answer: (.*)")
    assert said("normalised", "grey|gray", "Gray", separator="|")
    assert [False, True] == [
        said("normalised", "cat on mat", "The cat on a mat", articles=on) for on in (False, True)
    ]
    assert [True, False] == [said("normalised", "?!", answer) for answer in ("?!", "!?")]


RIGHT = [
    ("12", "12"),
    ("1234", "the total is 1,234 apples"),
    ("1/2", "0.5"),
    ("0.5", r"So we get $\boxed{\frac{1}{2}}$."),
    ("0.75", r"\boxed{\dfrac34}"),
    ("50%", "0.5"),
    ("50%", "50"),
    ("0.25", "25%"),
    ("1 km", "1000 m"),
    ("1.5 h", "It takes 90 minutes."),
    ("3", "x = 3"),
    ("$1,000", "so $1000.00"),
    ("-3", "\u22123"),
    ("42", "The answer is 42. Since 40+2=42 and 3*5=15"),
    ("1e5", "100000"),
    ("1.5e-3", r"1.5 \times 10^{-3}"),
    ("2 1/2", "2.5"),
    ("72", "She has 48/2 = 24. In total 48+24 = 72\n#### 72"),
    ("#### 72", "72"),
    ("10", "3 + 7 = 10 dollars."),
    ("3.14", "3,14"),
    ("12", "Final answer: $12$ cm"),
    ("1234567.8", "1 234 567,8"),
    ("1234567", r"$1{,}234{,}567$"),
    ("17", "**Answer:** 17"),
    ("600", "Therefore 10 \u00d7 60 = 600 seconds"),
    ("5", "Answer: 2 + 3 = 5."),
    ("1000000", "1.000.000"),
    ("3", "The answer is 3 because 4 - 1 = 3"),
    ("9", "The answer is $9."),
    ("100000", "1,00,000"),
    ("5 apples", "He has 5."),
    ("7", "We try 3, 5 and then 7"),
    ("-1/3", r"$-\frac{1}{3}$"),
    ("18", "18 (since 3*6 = 18)"),
    ("0", "The difference is 0."),
]
WRONG = [
    ("12", "12.5"),
    ("7", "seven"),
    ("5", "no"),
    ("1 km", "1000 s"),
    ("1 km", "100 m"),
    ("12", ""),
    ("3", "The answer is 4, not 3."),
    ("-3", "3"),
    ("1234", "1.234"),
    ("2", "version v2"),
    ("1/3", "0.33"),
    ("5", r"\boxed{6} because 5"),
    ("1", "1e999999999"),
]


@pytest.mark.parametrize(("truth", "answer"), RIGHT)
def test_right_numbers(truth: str, answer: str) -> None:
    """The same number is right however it is written."""
    assert True is said("numeric", truth, answer)


@pytest.mark.parametrize(("truth", "answer"), WRONG)
def test_wrong_numbers(truth: str, answer: str) -> None:
    """Another number, another unit and no number are wrong."""
    assert False is said("numeric", truth, answer)


@pytest.mark.parametrize("truth", ["many", "", "3 or 4", "1/0"])
def test_blind_numbers(truth: str) -> None:
    """A truth that is not one number makes the check blind."""
    assert None is said("numeric", truth, "3")


def test_numeric_options() -> None:
    """Tolerances, rounding, units and the decimal comma are options."""
    assert [False, True] == [said("numeric", "100", "101", relative=r) for r in (0.001, 0.01)]
    assert said("numeric", "100", "100.4", absolute=0.5)
    assert [False, True] == [said("numeric", "2/3", "0.67", rounding=on) for on in (False, True)]
    assert not said("numeric", "2/3", "1.1", rounding=True)
    assert said("numeric", "0.6667", "0.67", rounding=True)
    assert not said("numeric", "0.6667", "0.66", rounding=True)
    assert not said("numeric", "5 km", "5", units="require")
    assert said("numeric", "5 km", "5 s", units="ignore")
    assert said("numeric", "1234", "1.234", decimal_comma=True)


@settings(max_examples=150, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_number_formats(whole: int, places: int) -> None:
    """A number is found in each way of writing it."""
    value = Fraction(whole, 10**places)
    plain = f"{whole / 10**places:.{places}f}"
    grouped = f"{whole:,}" if places == 0 else plain
    for text in (
        plain,
        grouped,
        f"The answer is {plain}.",
        rf"$\boxed{{{plain}}}$",
        f"a = {plain}",
    ):
        found = result_of(text)
        assert found is not None
        assert value == found.value, text


@pytest.mark.parametrize(
    ("truth", "answer", "correct"),
    [
        ("A", "The answer is A", True),
        ("A", "iron", True),
        ("iron", "A) iron", True),
        ("B", "I think it is iron oxide.", True),
        ("A", "The answer is (a).", True),
        ("(a)", "A", True),
        ("A", "Answer: **A**", True),
        ("A", r"$\boxed{\text{A}}$", True),
        ("A", "I'd choose option A, because B is wrong.", True),
        ("C", "(A) is wrong. (B) is wrong. The correct answer is (C)", True),
        ("C", "The answer is A. No wait, the answer is C.", True),
        ("D", "D. water", True),
        ("A", "The answer is A metal thing", False),
        ("C", "either A or B", False),
        ("B", "A", False),
        ("A", "", False),
        ("Z", "A", None),
    ],
)
def test_choice(truth: str, answer: str, correct: bool | None) -> None:
    """The letter that an answer settles on counts, or the option's own text."""
    assert correct is check_of("choice")(truth, answer, METALS).correct


def test_choice_without_options() -> None:
    """Where the question lists none, the letters are those of the settings."""
    assert {} == options_of("What is 2 + 2?")
    assert None is chosen("F", "ABCD", options={})
    assert said("choice", "F", "F", letters="ABCDEF")
