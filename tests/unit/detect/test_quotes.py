"""What texts share is marked, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from stillwatch.detect.evidence.quotes import mark_shared, split_marks, without_marks

FRAME = "Write every step of the argument and end with the result."


def test_the_frame_is_marked_and_the_question_is_not() -> None:
    """A template is marked in each of its uses, numbers apart; what it wraps stays bare."""
    texts = [
        f"{FRAME} {q}"
        for q in ("why is grass green", "name 12 rivers of Peru", "who wrote the Iliad first")
    ]
    for text, marks in zip(texts, mark_shared(texts), strict=True):
        assert ((0, len(FRAME) - 1),) == marks
        assert text[len(FRAME) :].strip() in without_marks(text, marks)


def test_numbers_do_not_hide_a_template() -> None:
    """A slot filled with another number is still the same wording."""
    texts = ["Item 17 of the list: explain it fully", "Item 9 of the list: explain it fully"]
    assert [((0, len(texts[0])),), ((0, len(texts[1])),)] == mark_shared(texts)


def test_common_phrases_are_not_marked() -> None:
    """What everybody says is no skeleton."""
    phrase = "what is the difference between"
    texts = [f"{phrase} a crow and a raven", f"{phrase} tin and lead here"] + [
        f"something of its own number {word}" for word in ("one", "two", "three", "four", "five")
    ]
    others = [f"{phrase} {i} cats and dogs" for i in range(30)]
    assert () != mark_shared(texts)[0]
    assert () == mark_shared(texts, others=others)[0]


def test_a_text_alone_shares_nothing() -> None:
    """One text, or an empty one, has no marks."""
    assert [()] == mark_shared(["all alone in the wide world"])
    assert [(), ()] == mark_shared(["", ""])


@given(st.lists(st.text(alphabet="ab c1.\n", max_size=40), max_size=6))
def test_marks_lie_in_order_inside_their_text(texts: list[str]) -> None:
    """Marks never overlap, never leave their text, and can be cut anywhere."""
    for text, marks in zip(texts, mark_shared(texts, width=2), strict=True):
        flat = [place for mark in marks for place in mark]
        assert sorted(flat) == flat
        assert all(0 <= place <= len(text) for place in flat)
        first, second = split_marks(marks, 7)
        covered = {i for a, b in marks for i in range(a, b)}
        again = {i for a, b in first for i in range(a, b)}
        assert covered == again | {i + 7 for a, b in second for i in range(a, b)}
