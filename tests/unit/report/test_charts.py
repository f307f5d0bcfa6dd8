import re

import numpy as np
import pytest

from stillwatch.report.curve_chart import copy_curve_chart
from stillwatch.report.proof_chart import evidence_chart, uniform_chart
from stillwatch.report.svg import Scale, element, picture, text
from stillwatch.report.time_chart import campaign_days_chart, day_top
from stillwatch.report.web_chart import spring_layout, web_charts


def _numbers(svg: str, style: str, attribute: str) -> list[float]:
    found = re.findall(rf'<(?:rect|circle)[^>]*class="{style}"[^>]*', svg)
    return [float(re.search(rf'\b{attribute}="([^"]+)"', tag)[1]) for tag in found]


@pytest.mark.parametrize("kind", ["linear", "log", "root"])
def test_scales_keep_order_and_ends(kind):
    """A scale maps its ends to its ends, rises between them, and holds what lies outside."""
    scale = Scale(1, 1000, 50, 450, kind=kind)
    places = [scale(v) for v in (0.5, 1, 3, 30, 300, 1000, 4000)]
    assert (50, 450) == (places[1], places[-2])
    assert places == sorted(places)
    assert places[0] == 50
    assert places[-1] == 450


@pytest.mark.parametrize(
    ("scale", "want"),
    [
        (Scale(0, 470, 0, 1), [0, 100, 200, 300, 400]),
        (Scale(0, 0.9, 0, 1), [0, 0.2, 0.4, 0.6, 0.8]),
        (Scale(75, 2400, 0, 1, kind="log"), [100, 200, 500, 1000, 2000]),
        (Scale(1, 10**7, 0, 1, kind="log"), [1, 100, 10_000, 1_000_000]),
    ],
)
def test_ticks_are_round_and_few(scale, want):
    """Ticks are numbers that a reader would choose, and never crowd the axis."""
    got = scale.ticks(5)
    assert pytest.approx(want) == got


def test_text_is_escaped():
    """Words and attribute values cannot break out of their element."""
    assert "&lt;b&gt;" in text(0, 0, "<b>")
    assert "&quot;" in element("rect", {"class": '"><script>'})
    assert "<desc>a &amp; b</desc>" in picture((10, 10), "t", "a & b")


def test_curve_puts_students_where_they_scored(sample_moat):
    """More questions lie further right, a higher share lies higher."""
    curve = sample_moat["copy"]["overall"]
    svg = copy_curve_chart(curve)
    x, y = _numbers(svg, "student", "cx"), _numbers(svg, "student", "cy")
    assert len(curve["points"]) == len(x)
    assert x == sorted(x)
    assert np.corrcoef(y, [p["share"] for p in curve["points"]])[0, 1] < -0.999
    assert "with wall 14%" in svg
    assert "80% of it: " in svg


def test_days_share_one_scale(sample_moat):
    """A bar of the same count has the same height with the wall off and on."""
    runs = [sample_moat["runs"]["off"], sample_moat["runs"]["on"]]
    top = day_top(runs)
    per_answer = []
    for run in runs:
        heights = _numbers(campaign_days_chart(run, "t", top=top), "harvest", "height")
        counts = [d["harvest"] for d in run["days"] if d["harvest"]]
        per_answer.append(heights[0] / counts[0])
    assert pytest.approx(per_answer[0], rel=0.02) == per_answer[1]


def test_evidence_of_a_proof_lies_beyond_the_line(sample_moat):
    """The marked student stands in the zone of proof, the innocent and the wrong keys do not."""
    svg = evidence_chart(sample_moat["proof"])
    zone = _numbers(svg, "zone", "x")[0]
    assert _numbers(svg, "student", "cx")[0] > zone
    assert _numbers(svg, "innocent", "cx")[0] < zone
    assert _numbers(svg, "decoy", "cx")[0] < zone


def test_uniform_chart_counts_every_key():
    """Each wrong key falls into one bin, p = 1 included."""
    svg = uniform_chart([0.0, 0.05, 0.95, 1.0], "keys")
    assert "per tenth: 2, 0, 0, 0, 0, 0, 0, 0, 0, 2" in svg


def test_layout_joins_the_joined():
    """Members of a web end up nearer to each other than to strangers, the same every time."""
    ends = np.array([[a, b] for g in (0, 10, 20) for a in range(g, g + 10) for b in range(g, a)])
    places = spring_layout(30, ends, weights=np.ones(len(ends)))
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    same = np.repeat(np.arange(3), 10)[:, None] == np.repeat(np.arange(3), 10)[None]
    assert gaps[same].mean() < 0.5 * gaps[~same].mean()
    assert (places == spring_layout(30, ends, weights=np.ones(len(ends)))).all()


def test_web_rings_the_accused_only(sample_moat):
    """Each accused account wears a ring and nobody else does; sizes share one layout."""
    graph = sample_moat["graph"]
    wide, narrow = web_charts(graph, [(960, 560), (360, 400)])
    accused = sum(bool(node.get("named")) for node in graph["nodes"])
    assert accused == wide.count('class="ring"') == narrow.count('class="ring"')
    assert "130 of them of the campaign; 126 accused, 126 of these rightly" in wide


def test_web_of_nothing():
    """No accounts give an empty picture, not an error."""
    assert "0 accounts" in web_charts({"nodes": [], "edges": []}, [(100, 100)])[0]
