"""Pools of real questions, split into the families to tune on and the families to report on.

The texts are not part of the package: they are read from a folder with `human/` and `harvest/`
(docs/traffic.md names the sources). `home_made` in `homemade.py` makes pools without any folder.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stillwatch.errors import reject

#: Which families of questions may be tuned on, and which are for figures that are told. No text
#: is in both; a limit or a constant is never chosen on the second.
HUMAN: dict[str, tuple[str, ...]] = {
    "tuning": ("dolly", "clinc150", "oasst"),
    "report": ("banking77", "arena_users", "arena_hard", "nq_open"),
}
HARVEST: dict[str, tuple[str, ...]] = {
    "tuning": ("gsm8k", "bbh", "codegen", "self_instruct", "roleplay"),
    "report": ("webarena", "bfcl", "mbpp", "agentbench", "toolformer", "swe_bench", "exercism"),
}
#: Prompts that many unrelated people paste, split likewise.
PUBLIC: dict[str, str] = {"tuning": "acts_even", "report": "acts_odd"}
#: Seeds are split like the pools: a scenario of a family takes its randomness from here on.
SEED_BASE: dict[str, int] = {"tuning": 0, "report": 7_000_000}

#: Characters of a question kept; the longest issue texts would otherwise be most of a log.
LONGEST = 2_400
#: A content word makes a topic when so many questions share it.
_TOPIC_SIZE = (5, 30)
_WORD = re.compile(r"[a-z]{4,}")


@dataclass(frozen=True)
class Pool:
    """Questions of one source, and its topics.

    Attributes:
        name: of the source.
        questions: distinct texts.
        topics: places in `questions`, one row a topic; a question may have several topics.
    """

    name: str
    questions: tuple[str, ...]
    topics: tuple[tuple[int, ...], ...]


class Pools(NamedTuple):
    """What a world is made of.

    Attributes:
        human: what people ask.
        harvest: what a copier asks.
        public: prompts that anybody can find and paste.
        arrivals: the folder of arrival traces, or None for made-up arrivals.
    """

    human: tuple[Pool, ...]
    harvest: tuple[Pool, ...]
    public: Pool
    arrivals: Path | None = None


def load_pools(data: Path, families: str) -> Pools:
    """Read the pools of a family from the data folder.

    Args:
        data: holds human/, harvest/ and arrivals/.
        families: "tuning" or "report".

    Returns:
        The pools, in the order named above.

    Raises:
        InvalidInputError: no such family, or a file is missing.
    """
    if families not in HUMAN:
        reject("traffic", "families", "tuning or report", got=families)
    arrivals = Path(data) / "arrivals"
    return Pools(
        tuple(read_pool(data, name) for name in HUMAN[families]),
        tuple(read_pool(data, name) for name in HARVEST[families]),
        read_pool(data, PUBLIC[families]),
        arrivals if arrivals.is_dir() else None,
    )


def read_pool(data: Path, name: str) -> Pool:
    """Read one source.

    Args:
        data: holds human/ and harvest/.
        name: one of the names in `HUMAN` and `HARVEST`.

    Returns:
        The pool.

    Raises:
        InvalidInputError: no such source, or its file is missing.
    """
    if name not in _READERS:
        reject("traffic", "pool", f"among {', '.join(sorted(_READERS))}", got=name)
    try:
        labelled = list(_READERS[name](Path(data)))
    except FileNotFoundError as error:
        reject("traffic", "data", "a folder with the pools", got=error.filename)
    return make_pool(name, labelled)


def make_pool(name: str, labelled: Iterable[tuple[str, str | None]]) -> Pool:
    """Group questions into topics: by their labels, or by a content word that some share.

    Args:
        name: of the source.
        labelled: text and label; a label of None asks for words.

    Returns:
        The pool, without repeated texts.
    """
    label_of: dict[str, str | None] = {}
    for text, label in labelled:
        kept = text.strip()[:LONGEST]
        if kept:
            label_of.setdefault(kept, label)
    index: dict[str, list[int]] = defaultdict(list)
    for place, (text, label) in enumerate(label_of.items()):
        names = [label] if label is not None else sorted(set(_WORD.findall(text.lower())))
        for word in names:
            index[word].append(place)
    least, most = _TOPIC_SIZE
    labels = set(label_of.values())
    topics = [
        tuple(rows)
        for word, rows in sorted(index.items())
        if len(rows) >= least and (len(rows) <= most or word in labels)
    ]
    return Pool(name, tuple(label_of), tuple(topics) or (tuple(range(len(label_of))),))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _csv(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(2**24)  # one template of the collection is longer than the default
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_Labelled = list[tuple[str, str | None]]
_Reader = Callable[[Path], _Labelled]


def _bare(texts: Iterable[str]) -> _Labelled:
    return [(text, None) for text in texts]


def _clinc(data: Path) -> _Labelled:
    found = _json(data / "human/clinc150/data_full.json")
    return [(text, intent) for part in ("train", "val", "test") for text, intent in found[part]]


def _oasst(data: Path) -> _Labelled:
    rows = _json(data / "human/oasst/realistic_seed_data.json")
    return _bare(row["text"] for row in rows if row.get("role") == "prompter")


def _acts(part: int) -> _Reader:
    def read(data: Path) -> _Labelled:
        rows = _csv(data / "human/awesome_prompts/prompts_clean.csv")
        return _bare(row["prompt"] for row in rows[part::2])

    return read


def _arena_users(data: Path) -> _Labelled:
    rows = _lines(data / "human/arena_users/arena_prompts_clean.jsonl")
    return _bare(turn for row in rows for turn in row["turns"])


def _arena_hard(data: Path) -> _Labelled:
    first = _lines(data / "human/arena_hard/v0.1_question.jsonl")
    second = _lines(data / "human/arena_hard/v2.0_question.jsonl")
    texts = [row.get("prompt") or row["turns"][0]["content"] for row in first]
    return _bare([*texts, *(row["prompt"] for row in second)])


def _bbh(data: Path) -> _Labelled:
    return [
        (example["input"], path.stem)
        for path in sorted((data / "harvest/bbh").glob("*.json"))
        for example in _json(path)["examples"]
    ]


def _bfcl(data: Path) -> _Labelled:
    rows = [row for path in sorted((data / "harvest/bfcl").glob("*.json")) for row in _lines(path)]
    return _bare(turn[0]["content"] for row in rows for turn in row["question"] if turn)


def _gpteacher(file: str) -> _Reader:
    def read(data: Path) -> _Labelled:
        rows = _json(data / "harvest/gpteacher" / file)
        return _bare(f"{row['instruction']} {row.get('input', '')}" for row in rows)

    return read


def _self_instruct(data: Path) -> _Labelled:
    folder = data / "harvest/self_instruct"
    rows = _lines(folder / "seed_tasks.jsonl") + _lines(folder / "user_oriented_instructions.jsonl")
    return _bare(f"{row['instruction']}\n{row['instances'][0]['input']}" for row in rows)


def _agentbench(data: Path) -> _Labelled:
    folder = data / "harvest/agentbench"
    rows = _lines(folder / "standard.jsonl") + _json(folder / "training.json")
    return _bare(row["description"] for row in rows if isinstance(row, dict))


def _code(data: Path) -> _Labelled:
    packed = (data / "harvest/code_pool/HumanEval.jsonl.gz").read_bytes()
    prompts = [json.loads(line)["prompt"] for line in gzip.decompress(packed).splitlines()]
    texts = [row["text"] for row in _lines(data / "harvest/code_pool/mbpp.jsonl")]
    return _bare([*texts, *prompts])


def _nq_open(data: Path) -> _Labelled:
    folder = data / "human/nq_open"
    return _bare(row["question"] for p in sorted(folder.glob("*.jsonl")) for row in _lines(p))


def _webarena(data: Path) -> _Labelled:
    rows = _json(data / "harvest/webarena/test.raw.json")
    return [(row["intent"], str(row["intent_template_id"])) for row in rows]


def _banking(data: Path) -> _Labelled:
    folder = data / "human/banking77"
    rows = _csv(folder / "train.csv") + _csv(folder / "test.csv")
    return [(row["text"], row["category"]) for row in rows]


def _columns(path: str, column: str) -> _Reader:
    def read(data: Path) -> _Labelled:
        file = data / path
        rows: Sequence[Any] = _csv(file) if path.endswith("csv") else _lines(file)
        return _bare(row[column] for row in rows)

    return read


def _dolly(data: Path) -> _Labelled:
    rows = _json(data / "human/dolly_3k/dolly_3k.json")
    return _bare(f"{row['instruction']}\n\n{row['input']}".strip() for row in rows)


def _exercism(data: Path) -> _Labelled:
    paths = sorted((data / "harvest/exercism").glob("*__*.md"))
    return _bare(path.read_text("utf-8") for path in paths)


_READERS: dict[str, _Reader] = {
    "dolly": _dolly,
    "clinc150": _clinc,
    "oasst": _oasst,
    "acts_even": _acts(0),
    "acts_odd": _acts(1),
    "banking77": _banking,
    "arena_users": _arena_users,
    "arena_hard": _arena_hard,
    "nq_open": _nq_open,
    "gsm8k": _columns("harvest/gsm8k/train.jsonl", "question"),
    "bbh": _bbh,
    "codegen": _gpteacher("codegen-instruct.json"),
    "roleplay": _gpteacher("roleplay-simple-deduped-roleplay-instruct.json"),
    "self_instruct": _self_instruct,
    "webarena": _webarena,
    "bfcl": _bfcl,
    "mbpp": _code,
    "agentbench": _agentbench,
    "toolformer": _gpteacher("toolformer-dedupe-only-dataset.json"),
    "swe_bench": _columns("harvest/swe_bench_lite/swebench_lite.csv", "problem_statement"),
    "exercism": _exercism,
}
