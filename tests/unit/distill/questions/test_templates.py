"""Slots are filled as the table says, and draws repeat."""

from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillwatch.distill.questions.patterns import Pattern
from stillwatch.distill.questions.table import TemplateTable
from stillwatch.distill.questions.templates import Template
from stillwatch.errors import InvalidInputError


def _template(base: Path = Path(), **table: Any) -> Template:
    return Template(msgspec.convert(table, TemplateTable), base)


def _texts(template: Template, seed: int = 0) -> list[str]:
    return [row.item.question for row in template.rows(seed=seed)]


def test_the_whole_product_in_order() -> None:
    """Without a count every filling comes once, the last slot turning fastest."""
    slots = {"a": ["x", "y"], "n": {"range": [1, 5, 2]}}
    assert ["x1", "x3", "x5", "y1", "y3", "y5"] == _texts(_template(text="{a}{n}", slots=slots))


def test_a_draw_has_no_repeats_and_grows_at_its_end() -> None:
    """A larger count begins with a smaller one's questions; another seed draws others."""
    slots = {"n": {"range": [1, 3999]}, "m": {"range": [1, 3999]}}
    small = _texts(_template(text="{n}+{m}", slots=slots, count=50))
    large = _texts(_template(text="{n}+{m}", slots=slots, count=500))
    assert small == large[:50]
    assert 500 == len(set(large))
    assert small != _texts(_template(text="{n}+{m}", slots=slots, count=50), seed=1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100])
def test_a_draw_of_almost_everything_is_a_permutation(size: int) -> None:
    """The draw walks the whole product, whatever its size, and meets nothing twice."""
    template = _template(text="{n}", slots={"n": {"range": [1, size + 1]}}, count=size)
    found = _texts(template)
    assert (size, size) == (len(found), len(set(found)))


def test_a_draw_is_even() -> None:
    """Every value of a slot comes about equally often."""
    slots = {"c": list("abcde"), "n": {"range": [1, 1000]}}
    found = _texts(_template(text="{c}{n}", slots=slots, count=1000))
    counts = [sum(text[0] == letter for text in found) for letter in "abcde"]
    assert all(160 <= count <= 240 for count in counts), counts


def test_an_endless_product_costs_nothing() -> None:
    """A product beyond all counting is drawn from without being made."""
    slots = {f"s{n}": {"range": [0, 10**6]} for n in range(9)}
    template = _template(text=" ".join(f"{{{name}}}" for name in slots), slots=slots, count=10**9)
    assert (10**6 + 1) ** 9 == template.size
    assert 5 == len({row.item.question for row in islice(template.rows(seed=0), 5)})


def test_truth_fields_and_formats() -> None:
    """Fields of one value go together, in the question, its truth and its cluster."""
    capitals = [{"land": "Italy", "city": "Rome"}, {"land": "Peru", "city": "Lima"}]
    template = _template(
        text=["Capital of {c.land}? ({n:02d})", "{c.land}'s capital, {n:02d} letters at most?"],
        slots={"c": capitals, "n": [7]},
        truth="{c.city}",
        system="Answer about {c.land}.",
        cluster="{c.land}",
        capability="geography",
    )
    items = [row.item for row in template.rows(seed=0)]
    assert ["Capital of Italy? (07)", "Capital of Peru? (07)"] == [i.question for i in items[:2]]
    assert ["Rome", "Lima", "Rome", "Lima"] == [item.truth for item in items]
    assert ("Italy", "geography", "template 1:1") == (
        items[0].cluster, items[0].capability, items[0].origin
    )  # fmt: skip
    assert "Answer about Italy." == items[0].messages[0].content


def test_slots_from_files(tmp_path: Path) -> None:
    """Lines of a text, a column of a table, or its whole rows."""
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    (tmp_path / "t.csv").write_text("en,fr\ncat,chat\ndog,chien\n")
    lines = _template(tmp_path, text="{w}", slots={"w": {"file": "words.txt"}})
    assert ["cat", "dog"] == _texts(lines)
    column = _template(tmp_path, text="{w}", slots={"w": {"file": "t.csv", "column": "fr"}})
    assert ["chat", "chien"] == _texts(column)
    rows = _template(tmp_path, text="{w.en}?", truth="{w.fr}", slots={"w": {"file": "t.csv"}})
    assert ["chat", "chien"] == [row.item.truth for row in rows.rows(seed=0)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": "{a} {b}", "slots": {"a": [1]}}, r"text: slot \{b\} must be among the slots"),
        ({"text": "{a}", "slots": {"a": [1], "b": [2]}}, "slot b must be used"),
        ({"text": "{a", "slots": {"a": [1]}}, "template 1: text: "),
        ({"text": "{a.real}", "slots": {"a": [1]}}, "the slot has no fields"),
        ({"text": "{a}", "slots": {"a": [{"x": 1}]}}, "must name a field"),
        ({"text": "{a[0]}", "slots": {"a": ["xy"]}}, "a slot must be"),
        ({"text": "{a!r}", "slots": {"a": ["xy"]}}, "a slot must be"),
        ({"text": "{a}", "slots": {"a": []}}, "slots.a must hold at least one value"),
        ({"text": "{a}", "slots": {"a": {"range": [1, 2.5]}}}, "range must be"),
    ],
)
def test_rules_are_told(table: dict[str, Any], message: str) -> None:
    """A template that cannot be filled is an error before anything is asked."""
    with pytest.raises(InvalidInputError, match=message):
        _template(**table)


def test_a_template_must_have_a_text() -> None:
    """An empty text is refused with its table's name."""
    with pytest.raises(InvalidInputError, match=r"\[questions.templates\]: text must be one text"):
        TemplateTable(text="")


def test_a_format_that_does_not_suit_its_value() -> None:
    """A number's format on a text is told with the slot's name."""
    with pytest.raises(InvalidInputError, match=r"\{n:d\} does not suit str"):
        Pattern("{n:d}", where="x").filled({"n": "one"}.get)
