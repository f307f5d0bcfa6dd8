"""The docs cannot lie: every verb, flag, page, link and measurement named in them is there."""

import re
from pathlib import Path

import click
import pytest

from stillwatch.cli.main import VERBS, stillwatch

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / f"{n}.md" for n in ("README", "LOG", "CHANGELOG"))]
_LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)(?:#[^)]*)?\)")


def _commands() -> list[tuple[str, str, click.Command]]:
    found = []
    context = click.Context(stillwatch)
    for verb in VERBS:
        command = stillwatch.get_command(context, verb)
        assert command is not None
        found.append((verb, verb, command))
        if isinstance(command, click.Group):
            found += [(verb, f"{verb} {name}", sub) for name, sub in command.commands.items()]
    return found


@pytest.mark.parametrize(("verb", "name", "command"), _commands(), ids=lambda v: str(v)[:40])
def test_every_verb_and_flag_has_its_line(verb: str, name: str, command: click.Command) -> None:
    """A verb's page names the verb, its sub-verbs and every flag that is not hidden."""
    page = DOCS / ("index.md" if verb == "completion" else f"{verb}.md")
    text = page.read_text()
    assert name in text
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help or parameter.name in {"out", "seed"}, parameter.name
            assert parameter.opts[0] in text, f"{page.name} does not name {parameter.opts[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    for target in _LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_index_names_every_page() -> None:
    """No page is lost."""
    index = (DOCS / "index.md").read_text()
    assert [] == [p.name for p in DOCS.glob("*.md") if p.name != "index.md" and p.name not in index]


def test_no_page_names_a_machine() -> None:
    """No path of the machine that it was written on stands in a page."""
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|root|home|tmp)/", page.read_text()), page.name
