"""`stillwatch trace plan` and `trace verdict`: fixed beforehand, said afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillwatch.cli.trace_options import FILE, JSON, NEW, check_private, decoded, named


@click.command("plan")
@click.argument("draft", metavar="PLAN.toml", type=FILE)
@click.option("--out", required=True, type=NEW, help="The plan as it counts, JSON; a new file.")
@click.option("--prompts", type=FILE, help="The questions, hashed into the plan.")
@click.option(
    "--assignment", "assignments", multiple=True, type=FILE, help="A canary draw to commit to."
)
@click.option("--split", "splits", multiple=True, type=FILE, help="A withheld split to commit to.")
@click.option("--mark", "marks", multiple=True, type=FILE, help="A mark file to commit to.")
@click.option("--commit", type=NEW, help="Write commitments to all of it into this new folder.")
@JSON
def plan(*, draft: Path, out: Path, as_json: bool, **how: Any) -> None:
    """Pre-register an analysis: fix suspects, tests, questions and error rates, and hash them.

    Publish or time-stamp the digest before the first question. With --commit, the folder's
    commitments.tsq is the request for a time-stamp authority; secret/ stays yours.
    """
    from stillwatch.cli.printing import print_json
    from stillwatch.trace.preregister import write_plan

    found = _completed(draft, how)
    if out.exists():
        from stillwatch.errors import ConfigError

        message = f"{out}: stands already, and a plan does not change"
        raise ConfigError(message, hint="name another file")
    digest = write_plan(found, out)
    book = _commit(how, out) if how["commit"] is not None else None
    if as_json:
        print_json({"digest": digest, "plan": found, "commitments": book})
        return
    click.echo(f"{out}: {found.n_accusations:,} accusations share {found.proved:g}")
    click.echo(f"publish or time-stamp before the first question: {digest}")
    if book is not None:
        click.echo(f"{how['commit']}: {len(book.commitments)} commitments, book {book.book_id}")


@click.command("verdict")
@click.argument("plan_file", metavar="PLAN.json", type=FILE)
@click.option(
    "--finding", "findings", multiple=True, callback=named, metavar="SUSPECT=FILE",
    help="What a test found about a suspect; repeat it.",
)  # fmt: skip
@click.option(
    "--innocent", "innocents", multiple=True, callback=named, metavar="MODEL=FILE",
    help="What a test found about a model that never saw our answers; repeat it.",
)  # fmt: skip
@click.option(
    "--decoys", "audits", multiple=True, type=FILE, help="What a test's --audit wrote; repeat it."
)
@click.option("--out", type=NEW, help="Write the verdict here, JSON.")
@JSON
def verdict(*, plan_file: Path, out: Path | None, as_json: bool, **how: Any) -> None:
    """Judge every accusation of a plan by the findings that are there.

    May be called at any time; a later verdict is never weaker. Findings that the plan does not
    name are leads for another plan, and similarity stands apart.
    """
    from stillwatch.cli.printing import print_json
    from stillwatch.cli.trace_words import write_json
    from stillwatch.trace.preregister import read_plan
    from stillwatch.trace.verdicts.audit import DecoyAudit
    from stillwatch.trace.verdicts.verdict import decide, verdict_lines

    audits = [one for path in how["audits"] for one in decoded(path, list[DecoyAudit])]
    found = decide(
        read_plan(plan_file),
        _findings(how["findings"]),
        innocents=_findings(how["innocents"]),
        decoys=audits,
    )
    write_json(found, out)
    if as_json:
        print_json(found)
        return
    for line in verdict_lines(found):
        click.echo(line)


def _completed(draft: Path, how: dict[str, Any]) -> Any:
    """Fill in what can be computed: the questions' hash, the draws' commitments, the tool."""
    import msgspec

    from stillwatch import __version__
    from stillwatch.trace.canaries.canary import Assignment
    from stillwatch.trace.canaries.withheld import Split
    from stillwatch.trace.preregister import hash_prompts, read_plan
    from stillwatch.trace.suspect import read_prompts

    found = read_plan(draft)
    drawn = [decoded(path, Assignment) for path in how["assignments"]]
    drawn += [decoded(path, Split) for path in how["splits"]]
    changes: dict[str, Any] = {
        "tool": f"stillwatch {__version__}",
        "commitments": {
            **found.commitments, **{one.randomisation: one.commitment for one in drawn}
        },
    }  # fmt: skip
    if how["prompts"] is not None:
        questions = [one.question for one in read_prompts(how["prompts"])]
        changes |= {"prompts_sha256": hash_prompts(questions), "n_prompts": len(questions)}
    return msgspec.structs.replace(found, **changes)


def _commit(how: dict[str, Any], plan_path: Path) -> Any:
    from stillwatch.trace.bundle.commitments import Secret, write_commitments

    secret = {plan_path.name: Secret("plan", plan_path.read_bytes())}
    if how["prompts"] is not None:
        secret[how["prompts"].name] = Secret("questions", how["prompts"].read_bytes())
    for kind, name in (("assignment", "assignments"), ("split", "splits"), ("key", "marks")):
        for path in how[name]:
            if kind == "key":
                check_private(path)
            secret[path.name] = Secret(kind, path.read_bytes())  # type: ignore[arg-type]
    return write_commitments(how["commit"], secret)


def _findings(pairs: list[tuple[str, Path]]) -> dict[str, list[Any]]:
    from stillwatch.trace.verdicts.finding import Finding

    found: dict[str, list[Any]] = {}
    for name, path in pairs:
        told = decoded(path, list[Finding] | Finding)
        found.setdefault(name, []).extend(told if isinstance(told, list) else [told])
    return found
