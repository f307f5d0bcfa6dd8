import re
import shutil
import subprocess
from datetime import date

import numpy as np
import pytest

from stillwatch.distill.curves.curve_set import fit_curves
from stillwatch.distill.curves.curve_table import CurveTable, TreadmillTable
from stillwatch.distill.curves.points import PointLine, read_scored, write_point_lines
from stillwatch.report.curve_page import curve_page
from stillwatch.report.curve_words import answers, headline, reach_cells

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
META = {
    "name": "<roman>",
    "teacher": "house & skills",
    "basis": "own-model",
    "command": "stillwatch distill run roman.toml",
    "files": [{"path": "points.jsonl", "bytes": 1234, "sha256": "0f" * 32}],
}
BUDGETS = (100, 300, 1000, 3000)


def _lines(capabilities, *, flat=False):
    """An invented run: no figure in it was measured."""
    rng = np.random.default_rng(3)
    lines = []
    for name, half in capabilities.items():
        lines += [PointLine(name, [1] * 100), PointLine(name, _correct(rng, 0.05), 0)]
        for n in BUDGETS:
            for seed in (0, 1):
                share = 0.3 if flat else 0.05 + 0.85 / (1 + (half / n) ** 1.7)
                spent = {"n_kept": n, "output_tokens": 40 * n, "usd_asked": 0.001 * n}
                told = {**spent, "usd_trained": 0.2, "steps": 500, "train_loss": 0.01 * n**0.5}
                lines.append(PointLine(name, _correct(rng, share), n, seed, **told))
    return lines


def _correct(rng, share):
    return (rng.random(100) < share).astype(int).tolist()


def _curves(folder, lines, *, treadmill=True):
    path = folder / "points.jsonl"
    write_point_lines(path, lines)
    table = TreadmillTable(
        released=date(2026, 1, 1),
        successors=(date(2026, 5, 1), date(2026, 12, 1)),
        per_day=(5.0, 40.0, 1000.0),
    )
    settings = CurveTable(draws=40, treadmill=table if treadmill else None)
    return fit_curves(read_scored(path), settings).as_dict()


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Curves of two capabilities, items outside, and a treadmill of three purses."""
    lines = _lines({"regex": 500.0, "spelling": 1800.0})
    lines += [PointLine("regex", [1, 0] * 30, out_of_distribution=True)]
    lines += [PointLine("regex", [0, 0, 1] * 20, n, out_of_distribution=True) for n in BUDGETS]
    return _curves(tmp_path_factory.mktemp("run"), lines)


def test_page_holds_every_capability(curves):
    """Each capability, their mean, what lies outside and the treadmill have their pictures."""
    page = curve_page(curves, META)
    for name in ("mean of capabilities", "regex", "spelling", "How long the lead lasts"):
        assert name in page
    assert "Outside what was asked" in page
    # Three curves, one outside and the treadmill, each for a desktop and for a phone.
    assert 10 == page.count('class="chart"')


def test_page_fetches_nothing_and_escapes(curves):
    """No script, no address, and no word of a run that could become markup."""
    page = curve_page(curves, META)
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "&lt;roman&gt;" in page
    assert "house &amp; skills" in page


def test_figures_are_those_of_the_json(curves):
    """What the page says of a reach is what curve.json holds, in every unit."""
    page = curve_page(curves, META)
    for curve in (curves["macro"], *curves["curves"]):
        for reach in curve["reach"]:
            if reach["of"] == "gap" and reach["reached"]:
                assert reach_cells(reach, "questions") in page
                assert reach_cells(reach, "usd").replace("'", "&#39;") in page


def test_extrapolation_is_marked(curves):
    """A figure beyond the largest budget carries a mark, and the line there another style."""
    page = curve_page(curves, META)
    beyond = [
        reach
        for curve in (curves["macro"], *curves["curves"])
        for reach in curve["reach"]
        if reach["of"] == "gap" and reach["extrapolated"]
    ]
    assert beyond
    assert page.count('<span class="tag">extrapolated</span>') >= len(beyond)
    assert 'class="fit beyond"' in page


def test_first_answers_name_the_first_skill(curves):
    """The skill that takes the fewest questions is the one that goes first."""
    told = {answer.question: answer for answer in answers(curves)}
    assert "regex" == told["Which skill goes first?"].figure
    assert told["How long does the lead last?"].figure.endswith(("days", "day", "sight"))
    assert "of the gap" in headline(curves)


def test_a_wall_is_told_with_its_evidence(tmp_path):
    """A copy that stopped for want of training says so on the page, with the losses."""
    curves = _curves(tmp_path, _lines({"regex": 500.0}, flat=True), treadmill=False)
    page = curve_page(curves, {})
    assert "bound by compute" in page
    assert "nats a token" in page
    assert "How long the lead lasts" not in page


def test_bare_points_make_a_page(tmp_path):
    """One budget, no costs, no untouched student: the page says what it does not know."""
    lines = [PointLine("date", [1, 1, 1, 0]), PointLine("date", [1, 0, 0, 0], 50)]
    curves = _curves(tmp_path, lines, treadmill=False)
    page = curve_page(curves, {})
    assert "Too few budgets" in page
    assert "No untouched student was scored" in page
    assert "No line was fitted." in page


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window(curves, tmp_path, width):
    """On a phone and on a desktop nothing sticks out to the right."""
    (tmp_path / "page.html").write_text(curve_page(curves, META))
    script = "f.onload = () => { told.textContent = f.contentDocument.documentElement.scrollWidth }"
    style = f"width:{width}px;height:900px;border:0"
    frame = f'<iframe id="f" src="page.html" style="{style}"></iframe>'
    (tmp_path / "frame.html").write_text(
        f'<body style="margin:0">{frame}<p id="told"></p><script>{script}</script>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [
            CHROMIUM,
            *options,
            "--virtual-time-budget=5000",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert str(width) == re.search(r'id="told">(\d+)<', done.stdout)[1]
