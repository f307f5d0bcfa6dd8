"""The verdict page says what the verdict says, escapes it, and fits every window."""

import copy
import re
from typing import Any

import pytest

from stillwatch.report.verdict_chart import accusations_chart, chart_rows
from stillwatch.report.verdict_page import render_verdict
from stillwatch.report.verdict_words import answers, headline


def _channel(draw: str, log10_p: float) -> dict[str, Any]:
    return {
        "randomisation": draw, "log10_e": -log10_p - 1.5, "log10_p": log10_p,
        "tests": ["radioactivity-closed"] if draw.startswith("key") else ["canary"],
        "missing": [], "n": 61_204, "needed": 48_000,
    }  # fmt: skip


def _accusation(suspect: str, claim: str, level: str, log10_p: float) -> dict[str, Any]:
    rivals = [
        ("chance", "excluded", "the error rate covers all 3 accusations"),
        ("the same base model, or a third model that taught both", "excluded", "no draw is known"),
        ("keys picked after the answers were known", "narrowed", "every draw was committed to"),
        (
            "our answers reached the data through an open collection",
            "narrowed",
            "a draw of its own",
        ),
        ("the suspect repeats our answers from its prompt", "possible", "a test on the weights"),
    ]
    return {
        "suspect": suspect, "claim": claim, "level": level, "log10_e": -log10_p - 3,
        "log10_p": log10_p - 0.5, "adjusted_log10_p": log10_p,
        "channels": [_channel("key:5f0c1d", min(log10_p + 2, 0.0)), _channel("canary:77", -4.0)],
        "rivals": [dict(zip(("explanation", "standing", "why"), r, strict=True)) for r in rivals],
        "notes": [],
    }  # fmt: skip


def sample() -> dict[str, Any]:
    """A verdict about two suspects, one of them proved to have learned."""
    decoys = {
        "suspect": "quick-7b <chat>", "test": "radioactivity-closed", "randomisation": "key:5f0c1d",
        "n": 9_999, "below": [0.0097, 0.0511, 0.1003], "worst_log10_p": -4.1, "rank_p": 1e-4,
        "excess_p": 0.7, "passed": True,
    }  # fmt: skip
    likeness = {
        "test": "lineage", "statistic": 0.03, "rank": [0, 26], "n": 800,
        "notes": ["first of 12 candidates: our-model"],
    }  # fmt: skip
    return {
        "plan": {
            "title": "Two suspects", "proved": 1e-6, "strong": 1e-3, "correction": "holm",
            "stopping": "after the last planned question", "n_prompts": 3_000, "digest": "ab" * 32,
        },
        "accusations": [
            _accusation("quick-7b <chat>", "campaign-7", "proved", -23.4),
            _accusation("quick-7b <chat>", "campaign-2", "no finding", -0.2),
            _accusation("other-8b", "campaign-7", "no finding", 0.0),
        ],
        "audit": {
            "decoys": [decoys], "missing": [], "failures": [], "passed": True,
            "innocents": {
                "n": 24, "n_tried": 48, "worst": "innocent-13", "worst_claim": "campaign-2",
                "worst_log10_p": -1.9, "adjusted_log10_p": -0.2, "below": [0.0, 0.04, 0.1],
                "passed": True,
            },
        },
        "similarity": {"quick-7b <chat>": [likeness, {"test": "equality", "n": 40}]},
        "unplanned": {"other-8b": [{"test": "canary", "randomisation": "canary:0f"}]},
        "case": {
            "title": "Is quick-7b a copy?", "made_by": "Trust team", "permission": "public API",
            "claim": "It learned from answers sold to campaign-7.", "suspect": "quick-7b <chat>",
            "endpoint": "an OpenAI-wire endpoint", "asked_from": 1.79e9, "asked_until": 1.7901e9,
            "notes": ["Asked through one account."],
        },
        "bundle": {
            "root": "c0ffee" * 10 + "beef", "variant": "full", "is_sound": True, "is_timely": True,
            "problems": [], "notes": ["data/record.jsonl: 12 lines kept back: private"],
            "n_files": 31, "n_withheld": 0, "n_lines_withheld": 12,
            "witnesses": [{
                "path": "stamps/t.tsr", "about": "seal.json", "when": "2026-11-23 21:45:23 UTC",
                "authority": "CN=Test Time,O=Test", "is_trusted": True,
            }],
            "commitments": [
                {"name": "campaign-7.key", "kind": "key", "book": "b", "file": "f", "seen_at": 1.0},
                {"name": "campaign-2.key", "kind": "key", "book": "b", "file": "", "seen_at": 1.0},
            ],
        },
        "recomputed": [
            {"step": "canaries", "test": "canary", "outcome": "same", "details": []},
            {"step": "verdict", "test": "verdict", "outcome": "same", "details": []},
        ],
        "run": {
            "version": "0.1.0", "made_at": 1.79e9,
            "command": "stillwatch trace verify evidence.tar --trust authority.pem --recompute",
        },
    }  # fmt: skip


def quiet() -> dict[str, Any]:
    """A verdict without a finding, an audit or a bundle."""
    report = sample()
    report["accusations"] = [_accusation("other-8b", "our answers", "no finding", -0.4)]
    report["accusations"][0]["notes"] = ["key:5f0c1d: 900 of 48000 planned units were scored"]
    report["audit"] |= {"decoys": [], "missing": ["0 of 20 innocent models tested"]}
    report["audit"]["innocents"] |= {"n": 0, "worst": "", "worst_log10_p": 0.0}
    report |= {"bundle": None, "case": None, "recomputed": [], "similarity": {}, "unplanned": {}}
    return report


def told(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Figure and tone of each answer."""
    return {one.question: (one.figure, one.tone) for one in answers(report)}


def test_a_proof_is_told() -> None:
    """The headline, the chance, the audit, the order and the check of a proof."""
    report = sample()
    assert "Proved: quick-7b <chat> learned from the answers given to campaign-7" == headline(
        report
    )
    assert {
        "What was found?": ("Proved", "bad"),
        "Could it be luck?": ("1 in 10²³", "plain"),
        "Does the method accuse the innocent?": ("0 of 24", "good"),
        "Was it fixed beforehand?": ("Yes, witnessed", "good"),
        "What else could explain it?": ("1 open", "plain"),
        "Can anybody check it?": ("2 of 2 came out again", "good"),
    } == told(report)


def test_no_finding_accuses_nobody() -> None:
    """Without a finding the page says so, and that it is no acquittal."""
    report = quiet()
    assert "No finding: nothing proves that other-8b learned from our answers" == headline(report)
    page = render_verdict(report)
    assert "no acquittal" in page
    assert "900 of 48000 planned units" in page
    assert "Ruled out" not in page
    assert {"unknown"} == {tone for _, tone in told(report).values()}
    assert "Not tried" == told(report)["Does the method accuse the innocent?"][0]


@pytest.mark.parametrize(
    ("change", "question", "figure"),
    [
        ({"audit.failures": ["x fails"]}, "Does the method accuse the innocent?", "It may"),
        ({"bundle.is_timely": False}, "Was it fixed beforehand?", "Not shown"),
        (
            {"bundle.is_sound": False, "bundle.problems": ["a: altered"]},
            "Can anybody check it?",
            "It was altered",
        ),
        ({"bundle": None}, "Can anybody check it?", "Not measured"),
        ({"recomputed": []}, "Can anybody check it?", "Yes"),
    ],
)
def test_a_weakness_is_told(change, question, figure) -> None:
    """A failed audit, a late seal, an altered bundle and a missing one are not hidden."""
    report = copy.deepcopy(sample())
    for path, value in change.items():
        *way, last = path.split(".")
        place = report
        for key in way:
            place = place[key]
        place[last] = value
    assert figure == told(report)[question][0]
    assert "<h1>" in render_verdict(report)


def test_a_wrong_number_is_told() -> None:
    """A step that does not come out again is named, on the page and in its answer."""
    report = sample()
    report["recomputed"][0] |= {"outcome": "different", "details": ["n: 5 was sealed, 4 came out"]}
    assert ("1 of 2 came out again", "bad") == told(report)["Can anybody check it?"]
    assert "n: 5 was sealed, 4 came out" in render_verdict(report)


def test_strong_is_no_proof_and_many_are_counted() -> None:
    """Strong evidence is not called a proof, and several suspects are counted."""
    report = sample()
    report["accusations"][0]["level"] = "strong"
    assert headline(report).startswith("Strong evidence, short of proof: quick-7b")
    report["accusations"][2]["level"] = "proved"
    assert "Evidence that 2 models learned from our answers, 1 of them proved" == headline(report)


def test_what_it_is_given_is_escaped() -> None:
    """Names go in as text: no markup of theirs, no script, nothing fetched."""
    page = render_verdict(sample())
    assert "quick-7b &lt;chat&gt;" in page
    assert "<chat>" not in page
    assert [] == re.findall(r"<script|<img|<link|https?://", page)


def test_the_picture_shows_innocents_and_decoys() -> None:
    """Accusations, the worst innocent and the luckiest decoy stand on one scale."""
    report = sample()
    assert ["student"] * 3 + ["innocent", "decoy"] == [row[2] for row in chart_rows(report)]
    assert "proved from here" in accusations_chart(report)
    assert "<svg" in accusations_chart(quiet(), width=330)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window(show_page, width) -> None:
    """On a phone and on a desktop nothing sticks out to the right."""
    wide, _, pictures = show_page(render_verdict(sample()), width)
    assert (width, 2) == (wide, pictures)
