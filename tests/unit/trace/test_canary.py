"""Canaries: drawn by a key, committed, served, and read from answers."""

import msgspec
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.canaries.canary import (
    Assignment,
    Canary,
    check_serving,
    draw_assignment,
    picks_by_likelihood,
    picks_of,
    read_canaries,
    variant_in,
)
from stillwatch.trace.outputs import SuspectOutput

KEY = b"a key of this assignment"
LAKES = Canary("lake", "Name a lake for an example.", ("Lake Orrin", "Lake Vessa", "Lake Tamsk"))


def canaries(n, m=4):
    """Some canaries of m made-up names."""
    return [
        Canary(f"c{i}", f"Question {i}?", tuple(f"name{i}x{j}" for j in range(m))) for i in range(n)
    ]


def test_draw_repeats_and_depends_on_the_key():
    """The same key gives the same draw and commitment, another key or beacon another."""
    first = draw_assignment(canaries(40), key=KEY)
    assert first == draw_assignment(canaries(40), key=KEY)
    others = [
        draw_assignment(canaries(40), key=KEY + b"!"),
        draw_assignment(canaries(40), key=KEY, beacon=b"a public token"),
    ]
    assert 3 == len({one.served for one in (first, *others)})
    assert 3 == len({one.commitment for one in (first, *others)})
    assert f"canary:{first.commitment[:16]}" == first.randomisation


def test_draw_of_one_canary_does_not_depend_on_the_others():
    """A gateway can serve a canary without the list."""
    all_of_them = draw_assignment(canaries(40), key=KEY)
    alone = draw_assignment(canaries(40)[7:8], key=KEY)
    assert alone.served[0] == all_of_them.served[7]
    assert all_of_them.serve("c7") == alone.serve("c7")


def test_draw_is_uniform():
    """Each of 5 variants is drawn about as often."""
    served = draw_assignment(canaries(5000, 5), key=KEY).served
    for j in range(5):
        assert abs(served.count(j) - 1000) < 4 * 28.3


def test_commitment_binds_every_part():
    """Another variant, probe, draw or nonce gives another commitment; the file reads back."""
    drawn = draw_assignment(canaries(3), key=KEY)
    assert drawn == msgspec.json.decode(msgspec.json.encode(drawn), type=Assignment)
    other_draw = tuple((index + 1) % 4 for index in drawn.served)
    changed = [
        msgspec.structs.replace(drawn, served=other_draw),
        msgspec.structs.replace(drawn, nonce="00"),
        msgspec.structs.replace(
            drawn, canaries=(*canaries(2), Canary("c2", "?", ("a", "b", "c", "d")))
        ),
    ]
    assert 4 == len({one.commitment for one in (drawn, *changed)})


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("Take lake ORRIN, for example.", 0),
        ("**Lake  Vessa**!", 1),
        ("Lake Orrin or Lake Vessa", None),
        ("Lake Vessan", None),
        ("no idea", None),
    ],
)
def test_variant_in(answer, index):
    """A variant is read as whole words, whatever case and punctuation; two of them are none."""
    assert index == variant_in(answer, LAKES)


def test_picks_take_the_vote_of_several_answers():
    """Several answers to a probe are one pick; a tie is none; ids go before probes."""
    asked = [LAKES, *canaries(2)]
    outputs = [
        SuspectOutput("Lake Vessa", "Name a lake for an example."),
        SuspectOutput("lake vessa.", "Name a lake for an example. "),
        SuspectOutput("Lake Orrin", "Name a lake for an example."),
        SuspectOutput("name0x1", "Question 0?"),
        SuspectOutput("name0x2", "Question 0?"),
        SuspectOutput("name1x3", "Put otherwise", question_id="c1"),
        SuspectOutput("name1x2", "Another question"),
    ]
    assert {"lake": 1, "c0": None, "c1": 3} == picks_of(asked, outputs)


def test_picks_by_likelihood_take_the_likeliest():
    """With likelihoods every canary has a pick, except a tie."""
    picks = picks_by_likelihood({"a": [-2.0, -1.0, -3.0], "b": [-1.0, -1.0]})
    assert {"a": 1, "b": None} == picks
    with pytest.raises(InvalidInputError, match="two numbers or more"):
        picks_by_likelihood({"a": [1.0]})


def test_check_serving_reads_the_record():
    """The record says what was served to the suspects and what leaked to anybody."""
    drawn = draw_assignment(canaries(3), key=KEY)
    withheld = next(v for v in canaries(3)[1].variants if v != drawn.serve("c1"))
    serving = check_serving(
        drawn,
        to_suspects=[f"It is {drawn.serve('c0')}.", f"See {drawn.serve('c1')}"],
        to_others=[f"perhaps {withheld.upper()}", drawn.serve("c2")],
    )
    assert ({"c0", "c1"}, {"c1"}) == (serving.served, serving.leaked)


def test_read_canaries_names_the_line(tmp_path):
    """A file of canaries reads back; a bad line is named."""
    path = tmp_path / "canaries.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(one) for one in canaries(3)))
    assert canaries(3) == read_canaries(path)
    path.write_text('\n{"canary_id": "x", "probe": "?", "variants": ["a"]}')
    with pytest.raises(InvalidInputError, match=r"canaries\.jsonl:2.*at least 2"):
        read_canaries(path)
    path.write_text("")
    with pytest.raises(InvalidInputError, match="at least one canary"):
        read_canaries(path)


@pytest.mark.parametrize(
    ("probe", "variants", "rule"),
    [
        ("?", ("one",), "at least 2"),
        ("?", ("one", "..."), "letters or digits"),
        ("?", ("red", "red fox"), "not part of one another"),
        ("?", ("Red", "red"), "not part of one another"),
        ("Is it red?", ("red", "blue"), "free of every variant"),
    ],
)
def test_canary_refuses_what_cannot_be_read(probe, variants, rule):
    """Variants that an answer could not tell apart are refused."""
    with pytest.raises(InvalidInputError, match=rule):
        Canary("c", probe, variants)


def test_assignment_refuses():
    """Names that repeat, draws out of range, short keys and unknown names are refused."""
    one = canaries(1)[0]
    with pytest.raises(InvalidInputError, match="named differently"):
        draw_assignment([one, one], key=KEY)
    with pytest.raises(InvalidInputError, match="16 bytes"):
        draw_assignment([one], key=b"short")
    with pytest.raises(InvalidInputError, match="one draw a canary"):
        Assignment((one,), (), "00")
    with pytest.raises(InvalidInputError, match=r"in 0\.\.3"):
        Assignment((one,), (4,), "00")
    with pytest.raises(InvalidInputError, match="one of the drawn"):
        draw_assignment([one], key=KEY).serve("x")
