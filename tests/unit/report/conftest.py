"""An invented moat dictionary, of which no figure was measured; and a browser to show pages in."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillwatch.distill.curves.curve import CurvePoint, fit_copy_curve, pool_capabilities

_SHARES = {"date": (0.02, 0.09, 0.42, 0.81, 0.9), "roman": (0.04, 0.2, 0.66, 0.84, 0.93)}
_BUDGETS = (75, 150, 300, 600, 1200)

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FRAME = """<body style="margin:0">
<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>
<p id="told"></p>
<script>
f.onload = () => {{
  const page = f.contentDocument, root = page.documentElement;
  const pictures = page.querySelectorAll('svg.chart').length;
  told.textContent = [root.scrollWidth, root.scrollHeight, pictures].join(' ');
}}
</script>"""


@pytest.fixture
def show_page(tmp_path: Path) -> Callable[[str, int], list[int]]:
    """Show a page in a window of some width: how wide and tall it is, and its pictures."""
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")

    def show(page: str, width: int) -> list[int]:
        (tmp_path / "page.html").write_text(page)
        (tmp_path / "frame.html").write_text(_FRAME.format(width=width))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
        frame = (tmp_path / "frame.html").as_uri()
        done = subprocess.run(
            [browser, *options, "--virtual-time-budget=5000", "--dump-dom", frame],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return [int(x) for x in re.search(r'id="told">(\d+) (\d+) (\d+)<', done.stdout).groups()]

    return show


def _curves(rng: np.random.Generator) -> dict[str, Any]:
    points, teachers = [], {}
    for skill, shares in _SHARES.items():
        teachers[skill] = rng.random(300) < 0.985
        hard = rng.random(300)
        for seed in (0, 1):
            for n, share in zip(_BUDGETS, shares, strict=True):
                shaken = hard + rng.normal(0, 0.08, 300)
                points.append(CurvePoint(skill, n, seed, shaken < share))
    made = []
    for skill, teacher in teachers.items():
        own = [p for p in points if p.capability == skill]
        curve = fit_copy_curve(own, teacher, rng=rng, draws=60).as_dict()
        wall_on = {"n_questions": 190, "share": 0.14, "low": 0.105, "high": 0.184}
        made.append(curve | {"asked": True, "wall_on": wall_on})
    pooled, teacher = pool_capabilities(points, teachers, "asked skills together")
    pooled = [p._replace(n_questions=2 * p.n_questions) for p in pooled]
    overall = fit_copy_curve(pooled, teacher, rng=rng, draws=60).as_dict()
    wall_on = {"n_questions": 380, "share": 0.14, "low": 0.115, "high": 0.17}
    never = [CurvePoint("regex", n, 0, np.zeros(300, dtype=bool)) for n in _BUDGETS]
    flat = fit_copy_curve(never, np.ones(300, dtype=bool), rng=rng, draws=60).as_dict()
    return {
        "teacher": {"name": "house-skills", "parameters": 342_000},
        "student": {"shape": "56x2", "parameters": 79_000, "seeds": [0, 1], "cpu_s": 80.0},
        "asked_skills": ["date", "roman"],
        "held_out_items": 600,
        "skills": [flat | {"asked": False, "wall_on": None}, *made],
        "overall": overall | {"asked": True, "wall_on": wall_on},
    }


def _days(rng: np.random.Generator, *, wall: bool) -> list[dict[str, Any]]:
    days: list[dict[str, Any]] = []
    for day in range(14):
        planned = 0 if day < 2 else int(rng.integers(330, 470) * min(1.0, 0.35 + 0.2 * (day - 2)))
        got = planned if not wall or day < 4 else (40 if day == 4 else 0)
        stopped = min(planned, 260) - got if wall and day >= 4 else 0
        days.append({
            "day": day,
            "honest": int(rng.integers(480, 650)),
            "harvest": int(got * 0.78),
            "dilution": got - int(got * 0.78),
            "throttled": stopped if wall and day == 4 else 0,
            "blocked": stopped if wall and day > 4 else 0,
            "marked": 18 if wall and day == 4 else 0,
        })
    return days


def _run(rng: np.random.Generator, *, wall: bool) -> dict[str, Any]:
    days = _days(rng, wall=wall)
    answered = sum(d["harvest"] + d["dilution"] for d in days)
    refused = sum(d["blocked"] for d in days)
    throttled = sum(d["throttled"] for d in days)
    events = [
        {"day": 2.0, "kind": "start", "text": "the campaign's first question"},
        {"day": 4.0, "kind": "alarm", "text": "campaign c-1f2a named: 96 accounts, p = 2e-9"},
    ]
    if wall:
        events += [
            {"day": 4.0, "kind": "throttle", "text": "c-1f2a on house-skills: throttled"},
            {"day": 4.1, "kind": "watermark", "text": "c-1f2a on house-prose: answers marked"},
            {"day": 5.0, "kind": "block", "text": "c-1f2a on house-skills: blocked"},
        ]
    evidence = [
        {
            "kind": "shared wording",
            "text": "Rare opening lines shared across accounts",
            "accounts": 90,
        },
        {
            "kind": "queue",
            "text": "Questions hardly ever asked twice, as from one queue",
            "accounts": None,
        },
    ]
    campaign = {
        "campaign_id": "c-1f2a",
        "accounts": 126,
        "true_accounts": 126,
        "p_value": 1.2e-9,
        "log10_p": -8.92,
        "e_value": None,
        "exchanges": answered,
        "output_tokens": 61_000,
        "first_seen_day": 2.0,
        "last_seen_day": 13.9,
        "evidence": evidence,
    }
    alarm = {
        "day": 4.0,
        "days_after_start": 2.0,
        "exchanges_before": 361,
        "skill_answers_before": 190,
        "output_tokens_before": 7_400,
        "share_of_all_answers": 0.081,
    }
    return {
        "campaign": {
            "accounts": 130,
            "accounts_retired": 122 if wall else 0,
            "asked": answered + refused + throttled,
            "answered": answered,
            "refused": refused,
            "throttled": throttled,
            "marked": 18 if wall else 0,
            "skill_answers": int(answered * 0.45),
            "prose_answers": int(answered * 0.33),
            "dilution_answers": answered - int(answered * 0.45) - int(answered * 0.33),
            "input_tokens": answered * 31,
            "output_tokens": answered * 14,
            "usd": answered * 36.5e-6,
            "share_kept": 0.143 if wall else 0.912,
        },
        "honest": {
            "accounts": 300,
            "asked": 7_910,
            "answered": 7_910,
            "refused": 0,
            "throttled": 0,
            "marked": 0,
            "accounts_touched": 0,
            "added_delay_s_p50": 0.0,
            "added_delay_s_p99": 0.0,
        },
        "days": days,
        "events": events,
        "detection": {
            "precision": 1.0,
            "recall": 0.969,
            "accounts_named": 126,
            "honest_accounts_named": 0,
            "honest_groups_named": 0,
            "first_alarm": alarm,
            "campaigns": [campaign],
            "by_day": [
                {
                    "day": d,
                    "precision": 1.0,
                    "recall": round(0.969 * (1 - 0.5 ** (d - 3)), 3),
                    "accounts_named": 40 + 6 * d,
                }
                for d in range(4, 15)
            ],
        },
    }


def _graph(rng: np.random.Generator, *, accounts: int) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = [
        {
            "id": f"acct-{i:04d}",
            "kind": "account",
            "role": "campaign" if i < 130 else "honest",
            "group": "a class" if 130 <= i < 154 else None,
            "named": "c-1f2a" if i < 126 else None,
            "exchanges": int(rng.integers(8, 60)),
        }
        for i in range(accounts)
    ]
    nodes += [{"id": f"t{i}", "kind": "trait", "label": f"wording {i}"} for i in range(60)]
    edges = []
    for i in range(accounts):
        traits = range(24) if i < 130 else range(24, 27) if i < 154 else range(27, 60)
        shared = rng.choice(list(traits), size=3 if i < 154 else 1, replace=False)
        edges.extend(
            {"a": f"acct-{i:04d}", "b": f"t{trait}", "weight": float(rng.uniform(1, 4))}
            for trait in shared
        )
    note = "A line joins an account to a rare thing that it shares with others."
    return {"run": "off", "note": note, "nodes": nodes, "edges": edges}


def _proof(rng: np.random.Generator) -> dict[str, Any]:
    marked = {
        "label": "student trained on the campaign's marked answers",
        "outputs": 400,
        "windows": 6_353,
        "green": 2_185,
        "green_rate": 0.344,
        "p_value": 6e-63,
        "log10_p": -62.2,
        "decoy_rank_p": 1 / 301,
        "holm_p_value": 6e-63,
        "holm_log10_p": -62.2,
        "named_campaign": "c-1f2a",
        "true_campaign": "c-1f2a",
    }
    innocent = marked | {
        "label": "innocent student, trained on other text",
        "windows": 6_245,
        "green": 1_586,
        "green_rate": 0.254,
        "p_value": 0.21,
        "log10_p": -0.678,
        "decoy_rank_p": 0.22,
        "holm_p_value": None,
        "holm_log10_p": None,
        "named_campaign": None,
        "true_campaign": None,
    }
    return {
        "mark": {"gamma": 0.25, "delta": 2.0, "context_width": 1},
        "marked": marked,
        "innocent": innocent,
        "decoys": {"n": 300, "p_values": rng.random(300).tolist(), "ks_p_value": 0.41},
        "innocent_decoys": {"n": 300, "p_values": rng.random(300).tolist(), "ks_p_value": 0.77},
    }


def build_sample(accounts: int = 430) -> dict[str, Any]:
    """Invent a whole report with so many accounts in its graph."""
    rng = np.random.default_rng(7)
    groups = (
        "a class with one worksheet",
        "a company behind one address",
        "users of one agent",
        "users of one prompt template",
        "a viral prompt",
        "an evaluation harness",
    )
    return {
        "schema": "stillwatch.moat/1",
        "run": {
            "mode": "default",
            "seed": 0,
            "days": 14,
            "campaign_starts_day": 2,
            "version": "0.1.0",
            "command": "stillwatch siege --seed 0",
            "finished_at": 1_795_000_000.0,
            "duration_s": 171.2,
            "settings": {"fdr": 0.01, "student_steps": 900},
        },
        "world": {
            "honest_accounts": 300,
            "campaign_accounts": 130,
            "history_exchanges": 15_000,
            "live_exchanges": 13_000,
            "honest_groups": [{"name": g, "accounts": 24, "accounts_named": 0} for g in groups],
            "trivial_fields": {
                "user agent": 0.58,
                "question length": 0.63,
                "hour": 0.71,
                "volume": 0.69,
            },
        },
        "copy": _curves(rng),
        "runs": {"off": _run(rng, wall=False), "on": _run(rng, wall=True)},
        "cost": {
            "prices": {
                "usd_per_million_input": 0.5,
                "usd_per_million_output": 1.5,
                "source": "invented",
            },
            "rows": [{"label": "Training, all students", "off": 80.1, "on": 12.0, "unit": "CPU s"}],
        },
        "graph": _graph(rng, accounts=accounts),
        "proof": _proof(rng),
        "checks": [
            {
                "name": "The copy reaches 80% of the teacher, wall off",
                "target": "at least 0.80",
                "got": 0.912,
                "met": True,
            },
            {
                "name": "The marked student is proved",
                "target": "p below 1e-10",
                "got": 6e-63,
                "met": True,
            },
            {
                "name": "The campaign's accounts are found",
                "target": "recall at least 0.90",
                "got": 0.969,
                "met": True,
            },
        ],
        "not_tested": [
            "Campaigns that rewrite every question with a strong model.",
            "Removal of the mark by paraphrase.",
        ],
        "verify": {
            "command": "stillwatch siege verify DIR",
            "files": [{"path": "off/journal/0001.jsonl", "sha256": "ab" * 32, "bytes": 1_234_567}],
        },
    }


@pytest.fixture(scope="session")
def sample_moat() -> dict[str, Any]:
    """An invented report; tests that change it copy it first."""
    return build_sample(accounts=190)
