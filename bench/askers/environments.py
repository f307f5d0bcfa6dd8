"""Separate environments for those who ask: made once, with the versions they then run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent


class Contender(NamedTuple):
    """Somebody who asks.

    Attributes:
        name: as the table prints it.
        script: what runs a job.
        python: the interpreter of its environment.
        imports: a statement that imports what its script imports.
        variables: of its process, besides those of everyone.
        packages: whose versions are told.
    """

    name: str
    script: Path
    python: Path
    imports: str
    variables: dict[str, str]
    packages: tuple[str, ...]


class _Recipe(NamedTuple):
    script: str
    requirements: tuple[str, ...]
    imports: str
    packages: tuple[str, ...]


_RECIPES = {
    "distilabel": _Recipe(
        "by_distilabel.py",
        # It imports requests and does not ask for it; its own dependencies brought it once.
        ("distilabel[openai]==1.5.3", "requests"),
        "from distilabel.models import OpenAILLM; from distilabel.pipeline import Pipeline; "
        "from distilabel.steps import LoadDataFromDicts; "
        "from distilabel.steps.tasks import TextGeneration",
        ("distilabel", "openai", "datasets"),
    ),
    "curator": _Recipe(
        "by_curator.py",
        ("bespokelabs-curator==0.1.31",),
        "from bespokelabs import curator; from datasets import Dataset",
        ("bespokelabs-curator", "litellm", "aiohttp", "datasets"),
    ),
}
_OUR_IMPORTS = (
    "from stillwatch.distill.asking.ask import ask_items; "
    "from stillwatch.distill.asking.attempts import answered_items; "
    "from stillwatch.record.journal import Journal"
)
#: Quiet and offline: nothing is measured that a user could switch off.
_QUIET = {
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "TELEMETRY_ENABLED": "False",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_VIEWER": "0",
    "PYTHONWARNINGS": "ignore",
}


def contenders(folder: Path, names: list[str]) -> list[Contender]:
    """Make the environments that are not there yet.

    Args:
        folder: where they lie, one folder each.
        names: of those to run: ours, distilabel, curator.

    Returns:
        The contenders in that order.
    """
    return [_ours() if name == "ours" else _made(folder / name, name) for name in names]


def versions(contender: Contender) -> dict[str, str]:
    """Tell the versions that a contender runs.

    Args:
        contender: who.

    Returns:
        Versions by package.
    """
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    found = subprocess.run(
        [contender.python, "-c", code, *contender.packages],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(contender.packages, found.stdout.split(), strict=True))


def _ours() -> Contender:
    packages = ("stillwatch", "aiohttp", "msgspec")
    script = _HERE / "ours.py"
    return Contender("ours", script, Path(sys.executable), _OUR_IMPORTS, _variables(), packages)


def _made(folder: Path, name: str) -> Contender:
    recipe = _RECIPES[name]
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"making an environment for {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*install, *recipe.requirements], check=True)
        done.touch()
    variables = _variables()
    # curator counts tokens with a table that it would fetch; its own dependency brings the same.
    for tables in folder.glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"):
        variables["TIKTOKEN_CACHE_DIR"] = str(tables)
    script = _HERE / recipe.script
    return Contender(name, script, python, recipe.imports, variables, recipe.packages)


def _variables() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **_QUIET}
