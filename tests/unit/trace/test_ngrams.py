"""N-grams of answers: what is shared, what is left out."""

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.answer_table import AnswerTable, table_of
from stillwatch.trace.similarity.ngrams import Feature, grams, name_of, similarities

WORD, PAIR, CHAR, FRAME = (
    Feature("word", 1), Feature("word", 2), Feature("char", 3), Feature("frame", 2),
)  # fmt: skip


def compare(*answers, question="", features=(WORD,)):
    """Similarities of a few answers to one question."""
    models = tuple(f"m{number}" for number in range(len(answers)))
    table = AnswerTable(models, (question,), (answers,))
    return similarities(table, features, fewest_own=0)[0]


def test_equal_and_foreign_answers():
    """Equal answers have similarity one, answers without a common word zero."""
    found = compare("a red fox", "a red fox", "two blue whales")
    assert 1.0 == pytest.approx(found[0, 1])
    assert 0.0 == found[0, 2]


@pytest.mark.parametrize("feature", [WORD, PAIR, CHAR, FRAME], ids=lambda f: f.name)
def test_every_feature_is_symmetric_and_bounded(feature):
    """A similarity is the same both ways and lies between zero and one."""
    found = compare("the fox is red", "the fox was here", "it is a fox", features=(feature,))
    assert np.allclose(found, found.T)
    assert 0.0 <= found.min()
    assert found.max() == pytest.approx(1.0)


def test_words_of_the_question_count_for_nothing():
    """Answers that share only what was asked are not alike."""
    found = compare("red fox yes", "red fox no", "no idea", question="Is the red fox red?")
    assert 0.0 == found[0, 1]


def test_a_looping_answer_gains_nothing_much():
    """A word said a hundred times weighs a few times as much as a word said once."""
    once = compare("fox and hen", "fox runs far", "other words here")[0, 1]
    loop = compare("fox and hen", "fox " * 100 + "runs far", "other words here")[0, 1]
    assert loop < 2.5 * once


def test_an_empty_answer_is_missing():
    """A model that said nothing is compared with nobody."""
    found = compare("", "red fox", "red hen")
    assert np.isnan(found[0]).all()
    assert not np.isnan(found[1, 2])


def test_short_answers_are_left_out():
    """What anybody would say is no likeness; the length counts without the question's words."""
    long, echo = "The fox is a small wild dog with a tail.", "Is the red fox a dog? Yes."
    table = AnswerTable(("a", "b", "c", "d"), ("Is the red fox a dog?",), ((long, "Yes.", long,
                        echo),))  # fmt: skip
    found = similarities(table, (WORD,))[0]
    assert 1.0 == pytest.approx(found[0, 2])
    assert np.isnan(found[[1, 3]]).all()


def test_several_features_are_averaged():
    """Together they give the mean of what each gives alone."""
    texts = ("the fox is red", "the fox was here", "it is a fox")
    both = compare(*texts, features=(WORD, CHAR))
    alone = (compare(*texts, features=(WORD,)) + compare(*texts, features=(CHAR,))) / 2
    assert np.allclose(alone, both)
    assert "word-1+char-3" == name_of((WORD, CHAR))


def test_a_frame_keeps_style_words_only():
    """Other subjects in the same frame give the same grams."""
    first, second = grams(["the fox of the king", "the car of the shop"], FRAME), None
    second = first.values[first.offsets[1] :]
    assert first.values[: first.offsets[1]].tolist() == second.tolist()


def test_only_the_beginning_is_read():
    """A feature with a beginning does not see what comes later."""
    found = compare("abcdef X", "abcdef Y", "zzzzzz", features=(Feature("char", 3, 6),))
    assert 1.0 == pytest.approx(found[0, 1])


@pytest.mark.parametrize(
    "feature", [Feature("char", 0), Feature("word", 9), Feature("word", 1, 0)]
)  # fmt: skip
def test_a_feature_out_of_range_is_refused(feature):
    """The widths and beginnings that make no gram are named."""
    with pytest.raises(InvalidInputError, match=r"trace\.grams"):
        grams(["text"], feature)
    with pytest.raises(InvalidInputError, match="at least one"):
        compare("a", "b", features=())


def test_blocks_do_not_change_the_result():
    """A long list of questions, hashed in blocks, gives what each question gives alone."""
    rows = tuple((f"fox {n} runs", f"hen {n} runs", f"fox {n} sleeps") for n in range(70))
    table = AnswerTable(("a", "b", "c"), tuple(f"q{n}" for n in range(70)), rows)
    whole = similarities(table, (PAIR,), fewest_own=0)
    alone = similarities(table.keep([67]), (PAIR,), fewest_own=0)
    assert np.allclose(whole[67:68], alone)


def test_table_joins_by_question():
    """Questions that two models share are rows; the first of several answers counts."""
    first = [SuspectOutput("one", "q1"), SuspectOutput("again", "q1"), SuspectOutput("lone", "q3")]
    table = table_of({"a": first, "b": [SuspectOutput("two", "q2"), SuspectOutput("three", "q1")],
                      "c": [SuspectOutput("four", "q2")]})  # fmt: skip
    assert ("q1", "q2") == table.questions
    assert (("one", "three", ""), ("", "two", "four")) == table.answers
    assert 1 == table.place("b")
    with pytest.raises(InvalidInputError, match="model must be one of a, b, c"):
        table.place("d")


def test_a_table_without_shared_questions_is_refused():
    """Models that were asked different things cannot be compared."""
    with pytest.raises(InvalidInputError, match="same questions"):
        table_of({"a": [SuspectOutput("x", "q1")], "b": [SuspectOutput("y", "q2")]})
    with pytest.raises(InvalidInputError, match="at least two"):
        table_of({"a": [SuspectOutput("x", "q1")]})
