import copy
import io

import pytest
from rich.console import Console

from stillwatch.report.moat_text import moat_summary
from stillwatch.report.moat_words import headline, summary_sentences


@pytest.fixture
def report(sample_moat):
    """The invented report, free to be changed."""
    return copy.deepcopy(sample_moat)


def _finding(report, question):
    return next(f for f in summary_sentences(report) if question in f.question)


def test_good_run(report):
    """Where the wall held, the five answers say so in the report's own numbers."""
    assert ["plain", "good", "good", "good", "good"] == [f.tone for f in summary_sentences(report)]
    assert "91% → 14%" == _finding(report, "wall").figure
    assert "nothing" == _finding(report, "honest").figure
    assert "p\u00a0=\u00a06" not in _finding(report, "proved").figure
    assert "1 in 10⁶²" in _finding(report, "proved").sentence
    assert "after 2 days" == _finding(report, "seen").figure
    assert headline(report).endswith("The wall leaves 14%.")


def test_not_reached_is_said(report):
    """A copy that never gets to 80% is reported as that, with the reason that the fit gives."""
    report["copy"]["overall"]["questions_to"][1] |= {
        "reached": False,
        "n_questions": None,
        "sentence": "not reached within 9,600 questions",
    }
    cost = _finding(report, "cost")
    assert "80% not reached" == cost.figure
    assert "not reached within 9,600 questions" in cost.sentence
    assert "kept 91%" in headline(report)


def test_weak_wall_is_said(report):
    """A wall that does not halve the copy is called short, not praised."""
    report["runs"]["on"]["campaign"]["share_kept"] = 0.6
    wall = _finding(report, "wall")
    assert "bad" == wall.tone
    assert "less than the halving" in wall.sentence
    assert "still leaves 60%" in headline(report)


def test_never_seen_is_said(report):
    """Without an alarm the answer is never."""
    report["runs"]["off"]["detection"]["first_alarm"] = None
    assert ("never", "bad") == _finding(report, "seen")[1::2]


def test_late_is_no_success(report):
    """An alarm after a quarter of the answers is not told as good news."""
    report["runs"]["off"]["detection"]["first_alarm"]["share_of_all_answers"] = 0.6
    assert "bad" == _finding(report, "seen").tone


def test_harm_is_said(report):
    """One honest request refused, or one honest account accused, is not nothing."""
    report["runs"]["on"]["honest"]["refused"] = 1
    harm = _finding(report, "honest")
    assert ("1 request touched", "bad") == (harm.figure, harm.tone)
    report["runs"]["on"]["honest"]["refused"] = 0
    report["runs"]["on"]["detection"]["honest_accounts_named"] = 2
    report["world"]["honest_groups"][2]["accounts_named"] = 2
    harm = _finding(report, "honest")
    assert "bad" == harm.tone
    assert "2 honest accounts were accused" in harm.sentence
    assert "Accounts of users of one agent were among the accused." in harm.sentence


def test_no_proof_is_said(report):
    """A p-value that does not convince, a wrong campaign, a suspected innocent: all are told."""
    report["proof"]["marked"] |= {"p_value": 0.003, "log10_p": -2.52, "named_campaign": None}
    proof = _finding(report, "proved")
    assert "bad" == proof.tone
    assert proof.figure.startswith("not proved")
    report["proof"]["marked"] |= {"log10_p": -40.0, "named_campaign": "c-other"}
    assert "which is wrong" in _finding(report, "proved").sentence
    report["proof"]["innocent"] |= {"p_value": 1e-5, "log10_p": -5.0}
    proof = _finding(report, "proved")
    assert "bad" == proof.tone
    assert "wrongly suspected" in proof.sentence


def test_nothing_measured():
    """An empty report gives five unknowns and no number."""
    found = summary_sentences({})
    assert 5 == len(found)
    assert {"unknown"} == {f.tone for f in found}
    assert {"not measured"} == {f.figure for f in found}


def test_terminal_says_the_same(report):
    """The terminal carries the page's sentences, tables and targets; markup in names is inert."""
    report["checks"][0]["name"] = "[red]The copy[/red]"
    report["checks"][1]["met"] = None
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(moat_summary(report))
    told = console.export_text()
    for finding in summary_sentences(report):
        assert finding.figure in told
    assert "[red]The copy[/red]" in told
    assert "wall off" in told
    assert "not measured" in told
