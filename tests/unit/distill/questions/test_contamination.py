"""The score set is found in questions in whatever dress, and boilerplate convicts nobody."""

from collections.abc import Sequence

import pytest

from stillwatch.distill.items import Item, item_id_of
from stillwatch.distill.questions.contamination import HeldOut, find_contaminated
from stillwatch.distill.questions.table import ContaminationTable
from stillwatch.record.exchange import Message

LONG = "A train leaves Rome at nine and another leaves Milan at ten, when do they meet in Florence?"
SHORT = "What is the capital of the country of Peru?"


def _item(*texts: str, cluster: str = "") -> Item:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[n % 2], text) for n, text in enumerate(texts))
    return Item(item_id=item_id_of(messages), messages=messages, cluster=cluster)


def _reasons(texts: Sequence[str], held_out: Sequence[str], **table: object) -> list[str | None]:
    items = [_item(text) for text in texts]
    settings = ContaminationTable(**table)  # type: ignore[arg-type]
    return list(find_contaminated(items, [_item(text) for text in held_out], settings))


def test_each_reason() -> None:
    """Byte for byte, but for case and punctuation, a run of 13 words, or nothing."""
    asked = [
        LONG,
        LONG.upper().replace(",", "") + "!",
        "Help me: " + LONG.replace("Florence?", "Pisa?"),
        "A train leaves Rome at nine. Another one comes from Milan.",
    ]
    assert ["exact", "normalised", "ngram", None] == _reasons(asked, [LONG])


def test_short_score_questions_inside_longer_ones() -> None:
    """From eight words on they are found whole inside others; shorter ones only alone."""
    inside = "I have homework. " + SHORT + " Please answer."
    assert ["ngram"] == _reasons([inside], [SHORT])
    assert [None, "normalised"] == _reasons(["Tell me: who wrote Emma?", "who wrote emma"],
                                            ["Who wrote Emma?"])  # fmt: skip


def test_every_user_turn_is_searched() -> None:
    """A score question earlier in a conversation is seen too; the answers are not searched."""
    held_out = [_item(LONG)]
    talk = _item(LONG.lower(), "Noon.", "Thanks!")
    answer = _item("Tell me a riddle.", LONG, "Good one.")
    assert ["normalised", None] == find_contaminated([talk, answer], held_out)


def test_boilerplate_is_no_evidence() -> None:
    """What many score questions share gives nothing away, their own words do."""
    head = "Solve the following problem step by step and give only the final number at the end: "
    held_out = [head + f"what is {n} plus {n + 3} times {n * 7 + 1}" for n in range(40)]
    asked = [head + "name a prime", head + "what is 5 plus 8 times 36"]
    assert [None, "exact"] == _reasons(asked, held_out)
    assert ["ngram", None] == _reasons([asked[0], "name a prime"], held_out[:1])


def test_coverage_asks_for_more_than_one_run() -> None:
    """A question that shares a clause stays, one that holds most of a score question goes."""
    clause = "A train leaves Rome at nine and another leaves Milan at ten, when is dinner?"
    most = "Please: " + LONG.replace("Florence", "Pisa")
    assert ["ngram", "ngram"] == _reasons([clause, most], [LONG])
    assert [None, "ngram"] == _reasons([clause, most], [LONG], coverage=0.5)
    assert ["exact"] == _reasons([LONG], [LONG], coverage=1.0)


def test_short_turns_of_conversations_are_not_compared() -> None:
    """Conversations that end alike have nothing in common; the whole one or a long turn counts."""
    held_out = [_item("Book a table for two at eight tonight.", "Sure?", "Yes, please.")]
    other = _item("Cancel my order of a bicycle.", "Really?", "Yes, please.")
    assert [None, "exact"] == find_contaminated([other, held_out[0]], held_out)
    assert [None] == find_contaminated([_item("Yes, please.")], held_out)


def test_the_run_can_be_longer_or_off() -> None:
    """`ngram = 0` looks at whole questions only."""
    near = "Help me: " + LONG
    assert ["ngram", None] == [
        _reasons([near], [LONG], ngram=13)[0], _reasons([near], [LONG], ngram=0)[0]
    ]  # fmt: skip
    assert ["exact"] == _reasons([LONG], [LONG], ngram=0)
    assert [None] == _reasons([LONG], [LONG], enabled=False)


def test_clusters_count_only_when_asked_for() -> None:
    """Questions about a passage of the score set are left out on demand."""
    held_out, asked = [_item(LONG, cluster="p1")], [_item("Who drives it?", cluster="p1")]
    assert [None] == find_contaminated(asked, held_out)
    assert ["cluster"] == find_contaminated(asked, held_out, ContaminationTable(clusters=True))


@pytest.mark.parametrize("n", [0, 1])
def test_empty_sides(n: int) -> None:
    """No score set, or no question, is no case."""
    held_out = [_item(LONG)][:n]
    assert [None] * n == find_contaminated([_item("Something else?")][:n], held_out)
    assert n == len(HeldOut(held_out, ContaminationTable()))


def test_symbols_tell_sums_apart() -> None:
    """A sum with another sign is another question."""
    assert [None] == _reasons(["((-1 + 2) * 9) ="], ["((-1 - 2) * 9) ="])
