"""Pools of questions for worlds of honest accounts and webs: from a data folder, or home-made."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Families are split in code: thresholds were chosen on `tuning`, figures are told on `report`.
HUMAN = {
    "tuning": ("dolly", "clinc150", "oasst"),
    "report": ("banking77", "arena_users", "arena_hard", "nq_open"),
}
HARVEST = {
    "tuning": ("gsm8k", "bbh", "codegen"),
    "report": ("webarena", "bfcl", "mbpp", "agentbench", "toolformer"),
}
_WORD = re.compile(r"[a-z]{4,}")


@dataclass(frozen=True)
class Pool:
    """Questions, and topics as lists of places in them."""

    name: str
    questions: tuple[str, ...]
    topics: tuple[tuple[int, ...], ...]

    def of_topics(self, topics: tuple[int, ...]) -> list[str]:
        """List the questions of some topics."""
        return [self.questions[i] for t in topics for i in self.topics[t]]


def make_pool(name: str, texts: list[str], longest: int = 1200) -> Pool:
    """Group questions by a shared content word that 6 to 80 of them use."""
    questions = tuple(dict.fromkeys(t.strip()[:longest] for t in texts if t.strip()))
    index: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(questions):
        for word in sorted(set(_WORD.findall(text.lower()))):
            index[word].append(i)
    topics = [tuple(rows) for _, rows in sorted(index.items()) if 6 <= len(rows) <= 80]
    return Pool(name, questions, tuple(topics))


def read_pool(data: Path, name: str) -> Pool:
    """Read one family from the shared data folder."""
    return make_pool(name, _READERS[name](data))


def _jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def _csv(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _dolly(d: Path) -> list[str]:
    return [r["instruction"] for r in json.loads((d / "human/dolly_3k/dolly_3k.json").read_text())]


def _clinc(d: Path) -> list[str]:
    data = json.loads((d / "human/clinc150/data_full.json").read_text())
    return [t for key in ("train", "val", "test") for t, _ in data[key]]


def _oasst(d: Path) -> list[str]:
    rows = json.loads((d / "human/oasst/realistic_seed_data.json").read_text())
    return [r["text"] for r in rows if r.get("role") == "prompter"]


def _arena_users(d: Path) -> list[str]:
    path = d / "human/arena_users/arena_prompts_clean.jsonl"
    return [t for r in _jsonl(path) for t in r["turns"]]


def _arena_hard(d: Path) -> list[str]:
    one = [
        r.get("prompt") or r["turns"][0]["content"]
        for r in _jsonl(d / "human/arena_hard/v0.1_question.jsonl")
    ]
    return one + [r["prompt"] for r in _jsonl(d / "human/arena_hard/v2.0_question.jsonl")]


def _bbh(d: Path) -> list[str]:
    return [
        e["input"]
        for p in sorted((d / "harvest/bbh").glob("*.json"))
        for e in json.loads(p.read_text())["examples"]
    ]


def _bfcl(d: Path) -> list[str]:
    rows = [r for p in sorted((d / "harvest/bfcl").glob("*.json")) for r in _jsonl(p)]
    return [turn[0]["content"] for r in rows for turn in r["question"] if turn]


def _gpteacher(part: str):
    def read(d: Path) -> list[str]:
        rows = json.loads((d / f"harvest/gpteacher/{part}").read_text())
        return [f"{r['instruction']} {r.get('input', '')}" for r in rows]

    return read


def _agentbench(d: Path) -> list[str]:
    return [r["description"] for r in _jsonl(d / "harvest/agentbench/standard.jsonl")] + [
        r["description"]
        for r in json.loads((d / "harvest/agentbench/training.json").read_text())
        if isinstance(r, dict)
    ]


_READERS = {
    "dolly": _dolly,
    "clinc150": _clinc,
    "oasst": _oasst,
    "banking77": lambda d: [r["text"] for r in _csv(d / "human/banking77/train.csv")],
    "arena_users": _arena_users,
    "arena_hard": _arena_hard,
    "nq_open": lambda d: [
        r["question"] for p in sorted((d / "human/nq_open").glob("*.jsonl")) for r in _jsonl(p)
    ],
    "gsm8k": lambda d: [r["question"] for r in _jsonl(d / "harvest/gsm8k/train.jsonl")],
    "bbh": _bbh,
    "codegen": _gpteacher("codegen-instruct.json"),
    "toolformer": _gpteacher("toolformer-dedupe-only-dataset.json"),
    "webarena": lambda d: [
        r["intent"] for r in json.loads((d / "harvest/webarena/test.raw.json").read_text())
    ],
    "bfcl": _bfcl,
    "mbpp": lambda d: [r["text"] for r in _jsonl(d / "harvest/code_pool/mbpp.jsonl")],
    "agentbench": _agentbench,
    "humaneval": lambda d: [
        json.loads(line)["prompt"]
        for line in gzip.decompress(
            (d / "harvest/code_pool/HumanEval.jsonl.gz").read_bytes()
        ).splitlines()
    ],
}

_THINGS = tuple(
    re.findall(
        r"\w+",
        "garden kettle bicycle violin harbour lantern orchard compass saddle pottery chess sailing "
        "cheese beetle planet mortgage tunnel glacier opera pension vaccine carpet tractor sonnet "
        "python database router battery marathon yoga castle dragon pirate bakery bridge camera",
    )
)
_ASKS = (
    "how do i look after a {a} when the {b} is old",
    "what is the best {a} for a {b} under {n} euros",
    "explain why my {a} makes the {b} so slow after {n} days",
    "write a short note about a {a} and a {b}",
    "compare a {a} with a {b} in {n} points",
    "can you find mistakes in my plan for the {a} and the {b}",
    "my {a} broke yesterday, does the {b} need a new {c} as well",
    "list {n} ideas for a {a} party with a {b} and a {c}",
    "is it true that a {a} costs {n} dollars in a {b} shop",
    "translate the words {a}, {b} and {c} and use each in a sentence",
)


def home_made_pool(name: str, rng: np.random.Generator, n: int = 3000) -> Pool:
    """Make questions from a small grammar, so that tests need no data folder.

    The things of one question stand near each other in the list: a topic has words of its own.
    """
    texts = []
    for _ in range(n):
        centre = int(rng.integers(len(_THINGS)))
        near = [_THINGS[(centre + step) % len(_THINGS)] for step in range(-4, 5)]
        a, b, c = rng.choice(near, 3, replace=False)
        ask = _ASKS[int(rng.integers(len(_ASKS)))].format(
            a=a, b=b, c=c, n=int(rng.integers(2, 999))
        )
        texts.append(f"{ask} {' '.join(rng.choice(near, int(rng.integers(2, 6))))}")
    index = [tuple(i for i, t in enumerate(texts) if w in t.split()) for w in _THINGS]
    return Pool(name, tuple(texts), tuple(index))
