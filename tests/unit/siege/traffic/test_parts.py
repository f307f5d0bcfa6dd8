"""The parts of a world: instructions, times, plans, seats."""

from collections import Counter
from random import Random

import numpy as np

from stillwatch.siege.traffic.instructions import Frame, draw_instruction, paraphrase, word
from stillwatch.siege.traffic.phrases import FORMS, SLOTS
from stillwatch.siege.traffic.plans import _sittings
from stillwatch.siege.traffic.rows import exchange_ids
from stillwatch.siege.traffic.seats import Town
from stillwatch.siege.traffic.times import (
    draw_pauses,
    draw_rhythm,
    draw_times,
    leave_pauses,
    load_arrivals,
)


def test_every_form_can_be_said() -> None:
    """Each form names known slots, balances its brackets and leaves none in the text."""
    rng = Random(0)
    for kind, forms in FORMS.items():
        for form in forms:
            assert form.count("[") == form.count("]"), kind
    for _ in range(200):
        frame = paraphrase(draw_instruction(rng, training=0.5), rng)
        text = frame.system + frame.wrap("")
        assert not set(text) & set("{}")
        assert "  " not in text.strip()
    assert all(len(set(words)) == len(words) for words in SLOTS.values())


def test_instructions_differ() -> None:
    """Two instructions, and two wordings of one, are seldom the same."""
    rng = Random(1)
    said = draw_instruction(rng, training=0.6, places=("before",))
    wordings = {paraphrase(said, rng).before for _ in range(50)}
    assert len(wordings) > 45
    assert 30 == len({word(draw_instruction(rng), rng) for _ in range(30)})


def test_strangers_share_little_wording() -> None:
    """Two strangers' instructions seldom share five words; of public prompts 11 % of them are."""
    rng = Random(4)
    own = [set(_phrases(word(draw_instruction(rng), rng))) for _ in range(800)]
    spread = Counter(phrase for phrases in own for phrase in phrases)
    shared = [np.mean([spread[p] > 1 for p in phrases]) for phrases in own if phrases]
    assert 0.04 < np.mean(shared) < 0.16


def _phrases(frame: Frame) -> list[str]:
    words = f"{frame.system} {frame.wrap('')}".lower().split()
    return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]


def test_frame_wraps() -> None:
    """The question stands whole inside its frame, wherever the instruction stands."""
    rng = Random(2)
    for place in ("system", "before", "after", "around"):
        frame = word(draw_instruction(rng, places=(place,)), rng)
        assert "What?" in frame.wrap("What?")
        assert (place == "system") == bool(frame.system)


def test_times_stay_in_their_span() -> None:
    """Times ascend and lie inside the span, however short or long."""
    arrivals, rng = load_arrivals(None), np.random.default_rng(0)
    for human in (True, False):
        for span in ((1e9, 1e9 + 600.0), (1e9, 1e9 + 30 * 86_400.0)):
            rhythm = draw_rhythm(arrivals, rng, human=human)
            times = draw_times(arrivals, rhythm, rng, n=50, span=span)
            assert 50 == len(times)
            assert span[0] <= times[0] <= times[-1] < span[1]
            assert bool((np.diff(times) >= 0).all())
    assert 0 == len(draw_times(arrivals, rhythm, rng, n=0, span=span))


def test_people_have_hours() -> None:
    """A focused person asks near the own hour."""
    arrivals, rng = load_arrivals(None), np.random.default_rng(1)
    rhythm = draw_rhythm(arrivals, rng)._replace(hour=15.0, focus=6.0, sitting=1.0)
    times = draw_times(arrivals, rhythm, rng, n=400, span=(0.0, 14 * 86_400.0))
    assert abs(np.median(times % 86_400.0 / 3600.0) - 15.0) < 1.5


def test_nobody_asks_in_a_pause() -> None:
    """What falls into a pause is asked after it; everything else stays, in the order given."""
    rng = np.random.default_rng(2)
    times = rng.uniform(0.0, 10 * 86_400.0, size=500)
    pauses = draw_pauses(rng, (0.0, 10 * 86_400.0), n=1)
    moved = leave_pauses(times, pauses, rng)
    begin, end = pauses[0]
    assert not ((moved >= begin) & (moved < end)).any()
    kept = (times < begin) | (times >= end)
    assert bool((moved[kept] == times[kept]).all())


def test_sittings_are_numbered() -> None:
    """A gap of half an hour begins a new sitting, counted for each account by itself."""
    who = np.array([0, 1, 0, 0, 1])
    at = np.array([0.0, 5.0, 60.0, 5_000.0, 90_000.0])
    assert [0, 0, 0, 1, 1] == _sittings(who, at).tolist()


def test_exchange_ids_are_distinct() -> None:
    """Ids never collide, within a log and between seeds."""
    ids = np.concatenate([exchange_ids(1, 5_000), exchange_ids(2, 5_000)])
    assert 10_000 == len(set(ids.tolist()))
    assert {17} == {len(i) for i in ids.tolist()}


def test_honest_networks_are_shared_by_strangers() -> None:
    """Some networks hold many honest accounts; a payment mark holds one."""
    town = Town(Random(3), 1_000, 1.7e9)
    seats = [town.seat("person") for _ in range(1_000)]
    homes = [seat.networks[0] for seat in seats]
    marks = [seat.row.payment_hash for seat in seats if seat.row.payment_hash]
    assert max(homes.count(h) for h in set(homes)) > 30
    assert len(marks) == len(set(marks))
