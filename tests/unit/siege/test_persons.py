"""Persons: their words stay theirs, the question stays whole, the hours are theirs."""

import numpy as np
import pytest

from stillwatch.siege.groups import Framed
from stillwatch.siege.habits import PROSE_MODEL, Rhythm
from stillwatch.siege.persons import Writer, draw_item, draw_person
from stillwatch.siege.settings import DAY_S, FIRST_DAY
from stillwatch.siege.skills import SKILLS, is_held_out
from stillwatch.siege.voices import draw_voice, open_shelf, surround


@pytest.mark.parametrize("seed", range(20))
def test_question_stays_whole(seed: int) -> None:
    """Whatever a person writes around it, the last line is the question, letter by letter."""
    rng = np.random.default_rng(seed)
    voice = draw_voice(rng, open_shelf().topics[:2])
    for purpose in ("exact", "prose"):
        text = surround(voice, "ISO date of March 3, 1710", rng, purpose=purpose)
        assert "ISO date of March 3, 1710" == text.rsplit("\n", 1)[-1]


def test_slots_are_filled() -> None:
    """No slot or alternative of the grammar reaches a question."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        writer = Writer(draw_person(rng), rng)
        texts = [m.content for _ in range(6) for m in writer.write().messages]
        for slot in ("{noun}", "{own}", "{place}", "{number}", "{quote}"):
            assert not [text for text in texts if slot in text]


def test_forms_are_habits() -> None:
    """An item comes in one of the person's surface forms and is never a held-out one."""
    rng = np.random.default_rng(0)
    for name in SKILLS:
        items = [draw_item(name, (1, 2), rng) for _ in range(40)]
        assert {1, 2} == {item.form for item in items}
        assert not any(is_held_out(item) for item in items)


def test_same_habits_same_questions() -> None:
    """A person drawn twice from one seed writes the same."""
    drafts = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        writer = Writer(draw_person(rng), rng)
        drafts.append([writer.write() for _ in range(8)])
    assert drafts[0] == drafts[1]


def test_frame_surrounds_the_person() -> None:
    """A shared frame keeps the person's own last line last and its system prompt first."""
    rng = np.random.default_rng(2)
    framed = Framed(draw_person(rng), rng, system="S", frame="In {place}, about {own}:\n{text}")
    for _ in range(10):
        system, user = framed.write().messages
        assert ("system", "S") == (system.role, system.content)
        assert user.content.startswith("In ")
        assert "{" not in user.content.split("\n")[0]


@pytest.mark.parametrize("days", [0.3, 1.0, 2.5, 14.0])
def test_occasions_stay_in_the_window(days: float) -> None:
    """As many times as asked for, ascending, all within the window."""
    rhythm = Rhythm((9.0, 23.5), 2.0, 0.1, 300.0, 5.0)
    end = FIRST_DAY + days * DAY_S
    times = rhythm.occasions(200, (FIRST_DAY, end), np.random.default_rng(1))
    assert 200 == len(times)
    assert sorted(times) == times
    assert FIRST_DAY <= times[0] <= times[-1] < end


def test_hours_are_kept() -> None:
    """Sessions gather around the person's own hours; a quiet weekend stays quiet."""
    rhythm = Rhythm((9.0, 9.0), 0.5, 0.05, 20.0, 3.0)
    window = (FIRST_DAY + 0.4 * DAY_S, FIRST_DAY + 27.7 * DAY_S)
    times = np.array(rhythm.occasions(400, window, np.random.default_rng(1)))
    hours = times % DAY_S / 3600.0
    assert np.mean(abs(hours - 9.0) < 2.0) > 0.95
    # The first day is a Monday.
    weekend = (times - FIRST_DAY) // DAY_S % 7 >= 5
    assert weekend.mean() < 0.1


def test_prose_questions_come_from_the_own_corner() -> None:
    """A person's prose questions begin passages that belong to the person."""
    rng = np.random.default_rng(4)
    person = draw_person(rng)
    corner = [passage.text for passage in person.voice.corner]
    writer = Writer(person, rng)
    asked = [d for d in (writer.write() for _ in range(60)) if d.model == PROSE_MODEL]
    assert asked
    for draft in asked:
        line = draft.messages[-1].content.rsplit("\n", 1)[-1]
        assert any(text.startswith(line) for text in corner)
