"""The page of `detect` shows what it is given, escapes it, and fits every window."""

from typing import Any

import pytest

from stillwatch.report.detect_page import cut_by_marks, render_detect


def _nodes() -> list[dict[str, Any]]:
    members = [
        {"id": f"a{i}", "kind": "account", "label": f"acct-{i}", "member": i < 40, "exchanges": 9}
        for i in range(50)
    ]
    things = [
        {"id": f"w{i}", "kind": "trait", "label": label}
        for i, label in enumerate(("wording A", "wording B", "system prompt"))
    ]
    return members + things


def _evidence() -> list[dict[str, Any]]:
    quote = {
        "account": "acct-<3>",
        "text": "Solve this & show <b>all</b> steps: 3 + 4",
        "marks": [[0, 12]],
        "exchange_id": "x-1",
        "started_at": 1.77e9,
        "system": "You are a tutor.",
        "system_marks": [[0, 7]],
    }
    item = {
        "name": "A", "members": 40, "exchanges": 120, "others": 1, "reference": 0,
        "quotes": [quote] * 3,
    }  # fmt: skip
    days = {"questions": [3, 0, 9], "active": [2, 0, 7], "joined": [2, 0, 5]}
    exhibits = [
        ("shared wording", {"type": "wordings", "items": [item] * 5, "total": 9}),
        ("interchangeable members", {
            "type": "null", "found": 1.1, "honest": [4.0, 5.0, 9.5], "accounts": 16,
            "questions": 4, "limit": 2.5,
        }),
        ("who stands behind them", None),
        ("shared traits", {"type": "traits", "missing": ["payment mark"], "items": [{
            "kind": "system prompt", "distinct": 2, "top": 30, "members": 40, "others": 0,
            "others_known": 400, "reference": 0, "reference_known": 90, "label": "You are",
        }]}),
        ("web", {
            "type": "web", "nodes": _nodes(), "members": 40, "others": 10,
            "edges": [[f"a{i}", f"w{i % 3}"] for i in range(50)],
        }),
        ("timeline", {
            "type": "timeline", "start": 1.7e9, "step_s": 86_400.0, **days,
            "hours": [1] * 24, "other_hours": [2] * 24,
        }),
        ("value taken", {
            "type": "value", "kept": 120, "exchanges": 360, "output_tokens": 54_000,
            "is_exact": False, "share_of_log": 0.2, "usd": 1.25, "usd_per_million": [2.0, 10.0],
            "priced": "list prices of some month", "models": {"m-1": 1.0},
            "subjects": {"code": 0.4}, "words": ["harbour"], "flags": {"rubric": [0.3, 0.01]},
            "read_again": 24,
        }),
        ("innocent explanation", {"type": "doubts", "items": [{
            "explanation": "One party.", "expected": "This.", "seen": "That.", "verdict": "open",
            "settle": "Ask.",
        }]}),
    ]  # fmt: skip
    return [
        {"kind": kind, "text": f"Sentence about {kind}.", "figures": {}, "exhibit": exhibit}
        for kind, exhibit in exhibits
    ]


@pytest.fixture
def report() -> dict[str, Any]:
    """An invented report: no figure in it was measured."""
    campaign = {
        "campaign_id": "web-1f2a", "accounts": [f"acct-{i}" for i in range(200)],
        "p_value": 1e-7, "e_value": 1e3, "exchanges": 500, "output_tokens": 70_000,
        "first_seen": 1.7e9, "last_seen": 1.7002e9, "evidence": _evidence(),
    }  # fmt: skip
    silent = {
        "accounts": 30, "exchanges": 80, "p_value": 0.2, "ratio": 6.0, "revisited": 0.0,
        "named": False, "reason": "its members are themselves", "example": "dear <i>bot</i>",
    }  # fmt: skip
    return {
        "campaigns": [campaign, campaign | {"campaign_id": "web-77"}],
        "candidates": [silent],
        "fdr": 0.01, "n_accounts": 900, "n_exchanges": 12_000, "n_anchors": 300,
        "reference": "given",
        "lone": [{
            "account": "acct-x", "p_value": 0.001, "exchanges": 9, "output_tokens": 90,
            "reason": "unlike",
        }],
        "calibration": {
            "points": [(0.01, 0.0, 0.0, 0.08), (0.1, 0.09, 0.02, 0.2)], "text": "Halves agree.",
        },
        "run": {
            "version": "1", "command": "stillwatch detect", "first_seen": 1.7e9,
            "last_seen": 1.7002e9, "not_tested": ["Nothing of this kind."],
            "missing": [{"field": "network", "share": 0.0, "cost": "no links by network"}],
        },
    }  # fmt: skip


def test_everything_given_is_shown(report) -> None:
    """Figures, sentences, quotes, reasons, gaps: each has its place."""
    page = render_detect(report)
    for words in (
        "2 webs of 200 accounts took 720 answers", "web-77", "Wording A", "<mark>Solve this &amp;",
        "<mark>You are</mark>", "2 more of them", "acct-&lt;3&gt;", "shared, 730 times as often",
        "$1.25", "harbour", "rubric", "cannot be told", "Its members are themselves.", "acct-x",
        "Halves agree.", "Nothing of this kind.", "no links by network", "50 more, in accounts.csv",
        "Sentence about who stands behind them.",
    ):  # fmt: skip
        assert words in page, words


def test_nothing_is_taken_for_markup(report) -> None:
    """A question with tags in it is shown as it was asked."""
    page = render_detect(report)
    assert "<b>all</b>" not in page
    assert "<i>bot</i>" not in page
    assert "<script" not in page


def _owner() -> dict[str, Any]:
    mark = {"kind": "payment mark", "has_one_holder": True, "accounts": 9, "names": 8,
            "elsewhere": 1}  # fmt: skip
    return {
        "owner_id": "owner-5c", "accounts": [f"acct-<{i}>" for i in range(160)], "p_value": 1e-9,
        "names": 150, "holders": 1, "backed": 120, "exchanges": 800, "output_tokens": 90_000,
        "marks": [mark] * 12, "found_by": ["network"], "campaigns": {"web-1f2a": 40},
        "text": "160 accounts under 150 names.",
    }  # fmt: skip


def test_owners_stand_apart_from_campaigns(report) -> None:
    """Names that share one owner have a section of their own that says what they do not show."""
    page = render_detect(report | {"owners": [_owner()]})
    for words in (
        "Names that share one owner: evidence about accounts, not about harvesting", "owner-5c",
        "160 accounts under 150 names.", "nothing here says that they harvest", "acct-&lt;7&gt;",
        "40 of the accounts are in web-1f2a", "4 more shared marks", "10 more, in campaigns.json",
        "2 webs of 200 accounts took 720 answers",
    ):  # fmt: skip
        assert words in page, words
    assert "No group of accounts under different names" in render_detect(report | {"owners": []})
    assert 'id="owners"' not in render_detect(report | {"owners": None})


def test_a_log_without_questions_says_so_first(report) -> None:
    """The headline tells that no campaign could be named; what was tested follows."""
    told = {"lost": "Wording is lost.", "tested": "Networks were compared."}
    bare = report | {
        "campaigns": [], "candidates": [], "run": {"no_questions": told}, "owners": [_owner()],
    }  # fmt: skip
    page = render_detect(bare)
    assert (
        "This log has no questions: no campaign can be named, but 150 names share one owner" in page
    )
    assert "Wording is lost. Networks were compared." in page
    assert "Halves agree." not in page


def test_silence_is_a_page_too(report) -> None:
    """Without campaigns, without a reference, without candidates: the page says so."""
    bare = report | {
        "campaigns": [], "candidates": [], "lone": [], "calibration": None, "run": {},
        "reference": "the log itself",
    }  # fmt: skip
    page = render_detect(bare)
    assert "No campaign among 900 accounts" in page
    assert "No group shares rare wording" in page
    assert "Give --reference." in page


def test_evidence_without_exhibits_is_enough(report) -> None:
    """A campaign of an older run, with sentences only, still has its section."""
    old = [{"kind": e["kind"], "text": e["text"], "figures": {}} for e in _evidence()]
    report["campaigns"] = [report["campaigns"][0] | {"evidence": old}]
    page = render_detect(report)
    assert "Sentence about shared wording." in page
    assert "took 500 answers" in page


def test_marks_cut_a_text() -> None:
    """Marked and unmarked pieces join to the text."""
    pieces = cut_by_marks("abcdef", [(0, 2), (4, 6)])
    assert [("ab", True), ("cd", False), ("ef", True)] == pieces
    assert [] == cut_by_marks("", [])


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window(report, show_page, width) -> None:
    """On a phone and on a desktop nothing sticks out to the right."""
    wide, _, pictures = show_page(render_detect(report), width)
    assert width == wide
    assert pictures >= 12
