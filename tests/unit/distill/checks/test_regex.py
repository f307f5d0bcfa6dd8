"""Regular expressions: the same is proved, different has an example, the rest is unknown."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatch.distill.checks import check_of
from stillwatch.distill.checks.regex import compare, expression_of
from stillwatch.distill.checks.regex_automaton import difference
from stillwatch.distill.checks.regex_parse import BeyondError, parse
from stillwatch.distill.items import Item

ITEM = Item(item_id="q", messages=())
LETTERS = "a0\n "


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (r"\d{2,}", "[0-9][0-9]+"),
        ("a|b", "[ab]"),
        ("(a|b)*abb", "(?:a*b*)*abb"),
        ("colou?r", "color|colour"),
        ("(?i)ab", "[aA][bB]"),
        ("(?s).", r"[\s\S]"),
        ("x{2,4}", "xx(x?x?)"),
        ("a+?", "a+"),
        (r"\w", "[A-Za-z0-9_]"),
        (r"\s", r"[ \t\n\r\f\v]"),
        (r"\bab\b", r"\ba\Bb\b"),
        ("(?P<year>[0-9]{4})", r"(\d\d\d\d)"),
        ("[]a]", r"[a\]]"),
        ("a{,2}", "a?a?"),
        ("a{,}b{x}", r"a\{,\}b\{x\}"),
        (r"\x41\u0042", "AB"),
    ],
)
def test_same(truth: str, said: str) -> None:
    """What can match the same is the same, however it is written."""
    assert True is compare(truth, said).correct


@pytest.mark.parametrize(
    ("truth", "said", "reason"),
    [
        (r"\d+", r"\d", "it does not match '00'"),
        ("^a", "a", "it matches 'a' after ' '"),
        ("^a$", r"\Aa\Z", r"it does not match 'a' before '\n'"),
        ("a", "[", "the answer is no regular expression"),
        ("[а-я]", "[а-яё]", "it matches 'ё'"),  # noqa: RUF001 - Cyrillic is the point
        (r"\bcat\b", "cat", "it matches 'cat' before '0'"),
    ],
)
def test_different(truth: str, said: str, reason: str) -> None:
    """What differs comes with a text that tells the two apart."""
    assert (False, reason) == tuple(compare(truth, said))


@pytest.mark.parametrize(
    "said",
    [
        r"(a)\1",
        "a(?=b)",
        "(?<!b)a",
        "(?>a)",
        "a++",
        "(?x)a",
        "a{0,5000}",
        "((a{0,99}){0,99}){0,99}",
    ],
)
def test_beyond(said: str) -> None:
    """What cannot be compared is unknown, never wrong."""
    assert None is compare("a", said).correct


def test_truth_beyond() -> None:
    """A truth that is no expression, or none that is compared, makes the check blind."""
    assert (None, None) == (compare("[", "a").correct, compare("(?=a)", "a").correct)


def test_by() -> None:
    """The run says whether stretches, whole texts or the mere finding must agree."""
    said = [
        check_of("regex", {"by": by})("a+", "a", ITEM).correct for by in ("span", "full", "search")
    ]
    anchored = [
        check_of("regex", {"by": by})("^a$", "a", ITEM).correct for by in ("span", "full", "search")
    ]
    assert ([False, False, True], [False, True, False]) == (said, anchored)
    assert True is check_of("regex", {"by": "full"})(r"\Aa\Z", "a", ITEM).correct


@pytest.mark.parametrize(
    ("answer", "expression"),
    [
        ("[a-z]+", "[a-z]+"),
        ("You can use `^a b$` here.", "^a b$"),
        ("```regex\n\\d+\n```\nMatches digits.", r"\d+"),
        (r"/a\/b/gi", "(?i)a/b"),
        (r'r"\w+"', r"\w+"),
        ("`` a`b ``", " a`b "),
        ("", ""),
    ],
)
def test_expression_of(answer: str, expression: str) -> None:
    """The expression is found in what people write around it."""
    assert expression == expression_of(answer)


def _expressions() -> st.SearchStrategy[str]:
    atoms = st.sampled_from([
        "a",
        "0",
        r"\d",
        r"\w",
        r"\s",
        ".",
        "[^a]",
        "[a0]",
        r"\b",
        r"\B",
        "^",
        "$",
        r"\A",
        r"\Z",
        "",
    ])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map(
                lambda two: f"(?:{two[0]}){two[1]}"
            ),
        ),
        max_leaves=5,
    )


TEXTS = ["".join(text) for n in range(4) for text in itertools.product(LETTERS, repeat=n)]


def _spans(expression: str) -> set[tuple[str, int, int]]:
    found = set()
    for begin, end in itertools.combinations_with_replacement(range(4), 2):
        fixed = re.compile(rf"(?s:.{{{begin}}})(?:{expression})(?<=\A(?s:.{{{end}}}))")
        found |= {(text, begin, end) for text in TEXTS if end <= len(text) and fixed.match(text)}
    return found


@settings(max_examples=40, deadline=None)
@given(_expressions(), _expressions(), st.booleans())
def test_against_the_engine(one: str, other: str, lines: bool) -> None:
    """On short texts the engine agrees: the same spans for the same, and a difference is told."""
    flag = "m" if lines else "s"
    said = compare(f"(?{flag}){one}", f"(?{flag}){other}")
    same = _spans(f"(?{flag}:{one})") == _spans(f"(?{flag}:{other})")
    assert (said.correct, same) in {(True, True), (False, True), (False, False)}


@settings(max_examples=40, deadline=None)
@given(_expressions(), _expressions())
def test_example_holds(one: str, other: str) -> None:
    """The text that tells two apart does so in the engine too."""
    try:
        found = difference(parse(one), parse(other))
    except BeyondError:
        return
    if found is None or found[0] + found[2] + found[3] == "":
        return  # Python's own no-boundary does not hold in an empty text
    text = found.before + found.text + found.after
    end = len(found.before + found.text)
    spans = []
    for expression in (one, other):
        fixed = rf"(?s:.{{{len(found.before)}}})(?:{expression})(?<=\A(?s:.{{{end}}}))"
        # A line's end in the middle of a text is one that something follows.
        tails = [text] if not found.after else [text, text + "a"]
        spans.append([bool(re.match(fixed, tail)) for tail in tails])
    assert (found.first, not found.first) in list(zip(*spans, strict=True))
