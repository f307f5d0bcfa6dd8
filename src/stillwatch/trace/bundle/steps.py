"""The tests as steps of a bundle: files and plain settings in, plain data out.

A role of the form `reference/NAME` may stand any number of times, once a model. Settings are what a
step file can hold; a seed belongs to every step that draws. Whoever adds a test adds its runner
here, and its numbers can be computed again from a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from stillwatch.errors import InvalidInputError, reject
from stillwatch.stats.pvalues import permutation_p
from stillwatch.trace.canaries.canary import Assignment, picks_of
from stillwatch.trace.canaries.proof import Adoption, CanaryPlan, plan_canaries, prove_canaries
from stillwatch.trace.canaries.withheld import Split, WithheldPlan, prove_withheld
from stillwatch.trace.marks.markfile import open_mark
from stillwatch.trace.marks.protocol import mark_windows
from stillwatch.trace.outputs import SuspectOutput, open_tokens, read_outputs
from stillwatch.trace.preregister import AnalysisPlan, check_prompts, read_plan
from stillwatch.trace.radioactivity.excess_file import read_excess_file
from stillwatch.trace.radioactivity.on_files import RadioactivityFiles, find_served
from stillwatch.trace.radioactivity.weighted import test_weighted, weigh_windows
from stillwatch.trace.similarity.answer_sheet import AnswerSheet
from stillwatch.trace.similarity.answer_table import table_of
from stillwatch.trace.similarity.equality import compare_endpoint
from stillwatch.trace.similarity.findings import (
    equality_finding,
    errors_finding,
    identity_finding,
    lineage_finding,
)
from stillwatch.trace.similarity.identity import find_identity
from stillwatch.trace.similarity.kin import ModelCard, Panel
from stillwatch.trace.similarity.lineage import find_teacher
from stillwatch.trace.similarity.self_claims import Brand
from stillwatch.trace.similarity.shared_errors import compare_errors
from stillwatch.trace.verdicts.audit import DecoyAudit
from stillwatch.trace.verdicts.finding import Finding
from stillwatch.trace.verdicts.verdict import decide

Inputs = Mapping[str, Path]
Settings = Mapping[str, Any]
#: Files by role, and settings, to plain data.
Runner = Callable[[Inputs, Settings], Any]
Shape = TypeVar("Shape")


def _closed(inputs: Inputs, settings: Settings) -> Finding:
    """Score a suspect's answers under a mark: outputs, mark, tokenizer; settings: repeated, decoys.

    `repeated` keeps the windows that the answers repeat most; `decoys` tries so many other keys.
    """
    tokens = open_tokens(_file(inputs, "tokenizer"))
    vocab_size = tokens.vocab_size
    mark = open_mark(_file(inputs, "mark"), vocab_size=vocab_size)
    sequences = tokens.encode(read_outputs(_file(inputs, "outputs")))
    windows = mark_windows(sequences, mark, vocab_size=vocab_size)
    if repeated := settings.get("repeated"):
        windows = windows.most_repeated(int(repeated))
    evidence = mark.score(windows, vocab_size)
    details: dict[str, Any] = {}
    if n := int(settings.get("decoys", 0)):
        rng = _rng(settings)
        decoys = [mark.with_key(rng.bytes(32)).score(windows, vocab_size) for _ in range(n)]
        logs = [one.log10_p for one in decoys]
        rank_p = permutation_p(-evidence.log10_p, np.negative(logs))
        details = {"decoys": n, "decoy_rank_p": rank_p, "decoy_worst": min(logs)}
    return Finding(
        test=str(settings.get("test", "radioactivity-closed")),
        statistic=evidence.statistic,
        p_value=evidence.p_value,
        log10_p=evidence.log10_p,
        randomisation=f"key:{mark.key_id}",
        n=evidence.n_windows,
        null=f"the suspect's words do not depend on the key ({evidence.null})",
        details=details,
    )


def _weighted(
    inputs: Inputs, settings: Settings, *, test: str = "radioactivity-weighted"
) -> Finding:
    """Weigh windows under a mark: excess, mark; settings: decoys, seed.

    The excess comes from what the suspect wrote (weighted), or from its own chances (open).
    """
    excess, vocab_size = read_excess_file(_file(inputs, "excess"))
    told = test_weighted(
        weigh_windows(excess),
        open_mark(_file(inputs, "mark"), vocab_size=vocab_size),
        vocab_size=vocab_size,
        rng=_rng(settings),
        n_decoys=int(settings.get("decoys", 999)),
    )
    return told.finding(test)


def _supervised(inputs: Inputs, settings: Settings) -> Finding:
    """Hold a suspect to served answers: outputs, served, model/ANY, perhaps mark, suspect/ANY.

    `model/ANY` are the files of the marked model's folder, `suspect/ANY` those of the suspect's.
    Settings: draw, temperature.
    """
    folder = _folder(inputs, "model")
    vocab_size = open_tokens(folder).vocab_size
    marks = {}
    if "mark" in inputs:
        marks[""] = open_mark(inputs["mark"], vocab_size=vocab_size)
    files = RadioactivityFiles(
        outputs=_file(inputs, "outputs"),
        tokenizer=folder,
        marks=marks,
        suspect=_folder(inputs, "suspect") if _named(inputs, "suspect") else None,
        served=_file(inputs, "served"),
        temperature=float(settings.get("temperature", 1.0)),
    )
    return find_served(files, draw_id=str(settings.get("draw", "served")))


def _canary(inputs: Inputs, settings: Settings) -> Finding:
    """Test canaries: assignment, outputs; settings: plan, void, sequential."""
    assignment = _decoded(_file(inputs, "assignment"), Assignment)
    picks = picks_of(assignment.canaries, read_outputs(_file(inputs, "outputs")))
    plan: CanaryPlan | None = None
    if planned := settings.get("plan"):
        plan = plan_canaries(**{**planned, "adoption": Adoption(**planned["adoption"])})
    return prove_canaries(
        assignment,
        picks,
        void=settings.get("void", ()),
        plan=plan,
        sequential=bool(settings.get("sequential", False)),
    )


def _withheld(inputs: Inputs, settings: Settings) -> Finding:
    """Test a withheld split: split, scores, perhaps control; settings: plan."""
    shape = dict[str, float | tuple[float, float]]
    plan = WithheldPlan(**settings["plan"]) if settings.get("plan") else None
    control = _decoded(inputs["control"], shape) if "control" in inputs else None
    split, scores = _decoded(_file(inputs, "split"), Split), _file(inputs, "scores")
    return prove_withheld(split, _decoded(scores, shape), control=control, plan=plan)


def _lineage(inputs: Inputs, settings: Settings) -> Finding:
    """Rank candidate teachers: outputs/NAME; settings: suspect, candidate, references, seed."""
    cards = {
        name: ModelCard(
            family=card.get("family", ""),
            base=card.get("base", ""),
            released=date.fromisoformat(card["released"]) if card.get("released") else None,
            teachers=frozenset(card.get("teachers", ())),
        )
        for name, card in settings.get("cards", {}).items()
    }
    candidates = tuple(settings.get("candidates") or (settings["candidate"],))
    panel = Panel(settings["suspect"], candidates, tuple(settings["references"]), cards)
    told = find_teacher(
        table_of(_outputs(inputs, "outputs")),
        panel,
        rng=_rng(settings),
        n_draws=int(settings.get("draws", 1000)),
    )
    return lineage_finding(told, settings["candidate"])


def _shared_errors(inputs: Inputs, settings: Settings) -> Finding:
    """Compare choices: sheet; settings: mine, suspect, references."""
    sheet = _decoded(_file(inputs, "sheet"), _Sheet)
    told = compare_errors(
        AnswerSheet(
            sheet.models,
            np.asarray(sheet.choices, dtype=np.int64),
            np.asarray(sheet.right, dtype=np.int64),
            np.asarray(sheet.n_options, dtype=np.int64),
        ),
        settings["mine"],
        settings["suspect"],
        references=tuple(settings["references"]),
        wrong_only=bool(settings.get("wrong_only", True)),
    )
    return errors_finding(told)


def _identity(inputs: Inputs, settings: Settings) -> Finding:
    """Count claims to be of a brand: suspect, reference/NAME; settings: models, makers."""
    brand = Brand(tuple(settings["models"]), tuple(settings.get("makers", ())))
    suspect = read_outputs(_file(inputs, "suspect"))
    return identity_finding(find_identity(suspect, _outputs(inputs, "reference"), brand=brand))


def _equality(inputs: Inputs, settings: Settings) -> Finding:
    """Compare an endpoint: mine, endpoint, reference/NAME; settings: identity, seed, exchanges."""
    told = compare_endpoint(
        read_outputs(_file(inputs, "mine")),
        read_outputs(_file(inputs, "endpoint")),
        rng=_rng(settings),
        references=_outputs(inputs, "reference"),
        n_exchanges=int(settings.get("exchanges", 999)),
    )
    return equality_finding(told, identity=str(settings["identity"]))


def _prompts(inputs: Inputs, settings: Settings) -> dict[str, Any]:
    """Hold the questions asked to the plan's: plan, outputs."""
    plan = _plan(inputs)
    questions = [one.question for one in read_outputs(_file(inputs, "outputs"))]
    asked = list(dict.fromkeys(questions))
    check_prompts(plan, asked)
    return {"n_prompts": len(asked), "prompts_sha256": plan.prompts_sha256}


def _draws(inputs: Inputs, settings: Settings) -> dict[str, str]:
    """Hold opened draws to what the plan committed to: plan, assignment/NAME, split/NAME."""
    plan = _plan(inputs)
    drawn: list[Assignment | Split] = []
    for paths in _named(inputs, "assignment").values():
        drawn += [_decoded(path, Assignment) for path in paths]
    for paths in _named(inputs, "split").values():
        drawn += [_decoded(path, Split) for path in paths]
    for one in drawn:
        planned = plan.commitments.get(one.randomisation)
        if planned != one.commitment:
            reject("step", one.randomisation, f"the plan's {planned}", got=one.commitment)
    return {one.randomisation: one.commitment for one in drawn}


def _verdict(inputs: Inputs, settings: Settings) -> Any:
    """Judge: plan, finding/SUSPECT/ANY, innocent/MODEL/ANY, decoys."""
    decoys: list[DecoyAudit] = []
    if "decoys" in inputs:
        decoys = _decoded(inputs["decoys"], list[DecoyAudit])
    return decide(
        _plan(inputs),
        _findings(inputs, "finding"),
        innocents=_findings(inputs, "innocent"),
        decoys=decoys,
    )


#: Every test that a bundle's step may name.
RUNNERS: Mapping[str, Runner] = {
    "radioactivity-closed": _closed,
    "radioactivity-weighted": _weighted,
    "radioactivity-open": partial(_weighted, test="radioactivity-open"),
    "radioactivity-supervised": _supervised,
    "canary": _canary,
    "withheld": _withheld,
    "lineage": _lineage,
    "shared-errors": _shared_errors,
    "identity": _identity,
    "equality": _equality,
    "prompts": _prompts,
    "draws": _draws,
    "verdict": _verdict,
}


class _Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[str, ...]
    choices: list[list[int]]
    right: list[int]
    n_options: list[int]


def _file(inputs: Inputs, role: str) -> Path:
    if role not in inputs:
        reject("step", "inputs", f"complete: {role} is missing", got=", ".join(sorted(inputs)))
    return inputs[role]


def _folder(inputs: Inputs, role: str) -> Path:
    """Give the one folder that the files of `role/ANY` lie in."""
    folders = {path.parent for paths in _named(inputs, role).values() for path in paths}
    if len(folders) != 1:
        reject("step", f"{role}/...", "the files of one model folder", got=f"{len(folders)}")
    return folders.pop()


def _named(inputs: Inputs, role: str) -> dict[str, list[Path]]:
    """Collect the files of `role/NAME` and `role/NAME/ANY`, by name, in the order of the roles."""
    found: dict[str, list[Path]] = {}
    for key, path in inputs.items():
        kind, _, rest = key.partition("/")
        if kind == role and rest:
            found.setdefault(rest.split("/")[0], []).append(path)
    return found


def _outputs(inputs: Inputs, role: str) -> dict[str, list[SuspectOutput]]:
    return {
        name: [one for path in paths for one in read_outputs(path)]
        for name, paths in _named(inputs, role).items()
    }


def _findings(inputs: Inputs, role: str) -> dict[str, list[Finding]]:
    """Read findings; a file holds one, or a list."""
    found: dict[str, list[Finding]] = {}
    for name, paths in _named(inputs, role).items():
        for path in paths:
            is_list = path.read_bytes().lstrip().startswith(b"[")
            told = _decoded(path, list[Finding]) if is_list else [_decoded(path, Finding)]
            found.setdefault(name, []).extend(told)
    return found


def _plan(inputs: Inputs) -> AnalysisPlan:
    return read_plan(_file(inputs, "plan"))


def _rng(settings: Settings) -> np.random.Generator:
    if "seed" not in settings:
        reject("step", "settings.seed", "given: the step draws", got=None)
    return np.random.default_rng(settings["seed"])


def _decoded(path: Path, shape: type[Shape]) -> Shape:
    try:
        return msgspec.json.decode(path.read_bytes(), type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path.name}: not what the step reads from it: {error}"
        raise InvalidInputError(message) from error
