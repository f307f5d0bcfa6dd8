import copy
import re
from html.parser import HTMLParser

import pytest

from stillwatch.report.moat_page import render_moat

VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Outline(HTMLParser):
    """Checks that tags close in order, and collects what a page could fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [v for k, v in attrs if k in {"src", "href"} and not v.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def _outline(page: str) -> _Outline:
    outline = _Outline()
    outline.feed(page)
    outline.close()
    assert [] == outline.open
    return outline


@pytest.fixture(scope="module")
def page(sample_moat):
    """The invented report as a page."""
    return render_moat(sample_moat)


def test_page_is_whole_and_fetches_nothing(page):
    """One well-formed file: no script, no link, no font or picture from elsewhere."""
    outline = _outline(page)
    assert [] == outline.fetched
    assert set() == outline.tags & {"script", "link", "img", "iframe", "object"}
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", page)
    assert "@import" not in page
    assert "url(" not in page


def test_page_tells_the_story(page):
    """The five questions, the targets, the limits and the way to check stand on the page."""
    words = " ".join(_outline(page).words)
    for expected in (
        "What did the copy cost?",
        "When was it seen?",
        "What did the wall do?",
        "What did honest users pay?",
        "Can the copy be proved?",
        "Targets, reached or not",
        "What was not tested",
        "stillwatch siege verify DIR",
        "Campaign c-1f2a",
        "Prices:",
    ):
        assert expected in words


def test_every_picture_is_told(page):
    """A screen reader gets a title and a description of every picture."""
    pictures = re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', page, re.DOTALL)
    assert len(pictures) >= 12
    for drawn in pictures:
        assert re.search(r"<title>[^<]+</title><desc>[^<]+</desc>", drawn)


def test_same_report_same_page(sample_moat, page):
    """Rendering repeats byte for byte."""
    assert page == render_moat(sample_moat)


def test_words_of_the_report_are_escaped(sample_moat):
    """Text that came from accounts or files cannot become markup."""
    report = copy.deepcopy(sample_moat)
    nasty = "<script>alert('x')</script>\"&"
    report["runs"]["off"]["detection"]["campaigns"][0]["evidence"][0]["text"] = nasty
    report["runs"]["on"]["events"][0]["text"] = nasty
    report["graph"]["nodes"][0]["id"] = nasty
    report["graph"]["nodes"][-1]["label"] = nasty
    report["copy"]["skills"][0]["skill"] = nasty
    report["verify"]["files"][0]["path"] = nasty
    page = render_moat(report)
    assert "script" not in _outline(page).tags
    assert "<script" not in page


@pytest.mark.parametrize(
    "part",
    ["run", "world", "copy", "runs", "cost", "graph", "proof", "checks", "not_tested", "verify"],
)
def test_a_missing_part_is_said_to_be_missing(sample_moat, part):
    """A report lacking any one part still renders, and claims nothing about it."""
    report = {key: value for key, value in sample_moat.items() if key != part}
    _outline(render_moat(report))


def test_empty_report():
    """With nothing measured every answer is "not measured"."""
    page = render_moat({})
    _outline(page)
    assert 5 <= page.count("not measured") + page.count("This run did not measure it.") - 5


def test_short_targets_are_named_on_top(sample_moat):
    """A target that was missed is told before anything else, by name."""
    report = copy.deepcopy(sample_moat)
    report["checks"][1] |= {"met": False, "got": 0.3}
    page = render_moat(report)
    assert "1 of 3 targets was not reached:" in page
    assert page.index("The marked student is proved") < page.index('id="copy"')


def test_sparse_runs(sample_moat):
    """No alarm, no campaign, no line, no edge: each is a case, not a crash."""
    report = copy.deepcopy(sample_moat)
    for run in report["runs"].values():
        run["detection"] |= {"first_alarm": None, "campaigns": [], "by_day": []}
        run["events"] = []
    for curve in [*report["copy"]["skills"], report["copy"]["overall"]]:
        curve |= {"fit": None, "questions_to": [], "wall_on": None}
    report["copy"]["skills"][0]["points"] = []
    report["graph"]["edges"] = []
    page = render_moat(report)
    _outline(page)
    assert "No campaign was named in this run." in page
