"""Students of the prose teacher, made once and kept: what they were served, and what they say.

Everything lies in one cache folder, named by what it is made from, so that a run that was cut off
goes on where it stopped and every test can be scored again without training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from radio.rewriting import rewrite
from stillwatch.distill.training.train import Pair, train_student
from stillwatch.model.folder import SPECIAL_TOKENS
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.record.disk import replace_file
from stillwatch.siege.prose import (
    PROSE_STUDENT,
    ask_suspect,
    innocent_pairs,
    is_held_out,
    passages,
    prose_question,
    suspect_questions,
)
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.watermark import GreenListMark, campaign_mark

#: Answers that a student is trained on; of so many, `share` carry the mark.
N_TRAINING = 2_000
#: Fixed before anything is asked; the same for every suspect.
N_ASKED, ASKED_SEED = 2_000, 20_261
MASTER_KEY = b"the master key of this benchmark, not of any house"
N_CAMPAIGNS = 50


class Plan(NamedTuple):
    """One student.

    Attributes:
        kind: "marked", "rewritten" (marked, then paraphrased), "foreign" (marked, with another
            tokenizer), "plain" (unmarked answers of the teacher) or "ordinary" (text that no model
            wrote).
        share: of the training answers that carry the mark, 0..1.
        seed: of the key, the answers, the weights and the draws.
    """

    kind: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """Names the student's folder."""
        return f"{self.kind}-{round(100 * self.share):03d}-{self.seed:02d}"


class Served(msgspec.Struct, frozen=True):
    """One answer of the teacher, as its record holds it.

    Attributes:
        question: what was asked.
        answer: the text that was sent.
        prompt_ids: the question as the teacher reads it.
        token_ids: the tokens that were drawn, the closing one included when it was drawn.
    """

    question: str
    answer: str
    prompt_ids: list[int]
    token_ids: list[int]


def all_marks() -> dict[str, GreenListMark]:
    """Derive the 50 campaigns' marks.

    Returns:
        Campaign id -> mark.
    """
    names = [f"campaign-{i:02d}" for i in range(1, N_CAMPAIGNS + 1)]
    return {name: campaign_mark(MASTER_KEY, name) for name in names}


def campaign_of(seed: int) -> str:
    """Name the campaign that students of a seed were fed by.

    Args:
        seed: 1 to 50.

    Returns:
        Its id.
    """
    return f"campaign-{seed:02d}"


class Cache:
    """The folder of everything that is made once.

    Args:
        folder: made when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def served(self, seed: int, *, marked: bool, n: int = N_TRAINING) -> list[Served]:
        """Give the first n answers that the teacher served to a campaign.

        Args:
            seed: of the campaign.
            marked: with the campaign's mark, or without any.
            n: how many (count).

        Returns:
            Answer i answers question i of the campaign, marked or not; more are made when the
            cache holds fewer.
        """
        path = self.folder / f"served-{'marked' if marked else 'plain'}-{seed:02d}.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        known = [msgspec.json.decode(line, type=Served) for line in lines]
        if len(known) >= n:
            return known[:n]
        found = known + _answer(seed, range(len(known), n), marked=marked)
        replace_file(path, b"".join(msgspec.json.encode(one) + b"\n" for one in found))
        return found

    def training(self, plan: Plan) -> list[Pair]:
        """Give what a student is trained on.

        Args:
            plan: the student.

        Returns:
            `N_TRAINING` pairs.
        """
        if plan.kind == "ordinary":
            return innocent_pairs(N_TRAINING, seed=plan.seed)
        n_marked = round(plan.share * N_TRAINING)
        marked = self.served(plan.seed, marked=True, n=n_marked) if n_marked else []
        plain = self.served(plan.seed, marked=False) if n_marked < N_TRAINING else []
        pairs = [Pair(one.question, one.answer) for one in [*marked, *plain[n_marked:]]]
        if plan.kind == "rewritten":
            rng = np.random.default_rng(plan.seed)
            pairs = [Pair(pair.question, rewrite(pair.answer, rng=rng)) for pair in pairs]
        return pairs

    def student(self, plan: Plan) -> Path:
        """Give a trained student's folder, trained now when it is not there.

        Args:
            plan: the student.

        Returns:
            The folder, with `answers.json` in it.
        """
        out = self.folder / "students" / plan.name
        if not (out / "answers.json").exists():
            started = time.process_time()
            shape, recipe = PROSE_STUDENT
            train_student(
                self.training(plan),
                tokenizer=self._tokenizer(plan),
                shape=shape,
                recipe=replace(recipe, seed=plan.seed),
                out=out,
            )
            asked = ask_suspect(out, asked_questions(), seed=plan.seed * 1_000_003)
            replace_file(out / "cost.json", json.dumps(time.process_time() - started).encode())
            replace_file(out / "answers.json", json.dumps([pair.answer for pair in asked]).encode())
        return out

    def _tokenizer(self, plan: Plan) -> Path:
        if plan.kind != "foreign":
            return house_teacher("house-prose")
        path = self.folder / f"tokenizer-{plan.name}.json"
        if not path.exists():
            train_tokenizer([text for pair in self.training(plan) for text in pair], path)
        return path

    def answers(self, plan: Plan) -> list[Pair]:
        """Give what a student answered to the questions fixed beforehand.

        Args:
            plan: the student.

        Returns:
            Questions with answers.
        """
        answers = json.loads((self.student(plan) / "answers.json").read_text("utf-8"))
        return [Pair(q, a) for q, a in zip(asked_questions(), answers, strict=True)]


def asked_questions() -> list[str]:
    """Draw the questions of every suspect, from passages that no house model has seen.

    Returns:
        `N_ASKED` questions.
    """
    return suspect_questions(N_ASKED, seed=ASKED_SEED)


def _answer(seed: int, numbers: range, *, marked: bool) -> list[Served]:
    teacher = LocalModel.load(house_teacher("house-prose"))
    mark = all_marks()[campaign_of(seed)] if marked else None
    questions = _campaign_questions(seed)
    rows = [
        GenerationRow(
            prompt_ids=teacher.encode_question(questions[i]),
            max_new_tokens=teacher.defaults.max_new_tokens,
            temperature=1.0,
            seed=(seed * 2 + marked) * 1_000_003 + i,
            bias=mark,
        )
        for i in numbers
    ]
    return [
        Served(
            question=questions[i],
            answer=found.text,
            prompt_ids=list(found.prompt_ids),
            token_ids=[
                *found.token_ids,
                *[teacher.tokenizer.eos_id][: found.finish_reason == "stop"],
            ],
        )
        for i, found in zip(numbers, teacher.generate(rows), strict=True)
    ]


def _campaign_questions(seed: int) -> list[str]:
    rng = np.random.default_rng([seed, 1])
    seen = [passage for passage in passages() if not is_held_out(passage)]
    return [prose_question(seen[i], rng) for i in rng.permutation(len(seen))[:N_TRAINING]]


def lane(seeds: Sequence[int]) -> list[Plan]:
    """Order the students: what decides most comes first.

    Args:
        seeds: of the two shares that the targets name; the first five are used for the others.

    Returns:
        Plans.
    """
    few = list(seeds)[:5]
    plans = [
        plan
        for seed in few
        for plan in (
            Plan("marked", 0.1, seed),
            Plan("marked", 0.3, seed),
            Plan("ordinary", 0.0, seed),
        )
    ]
    plans += [Plan("marked", share, seed) for seed in list(seeds)[5:] for share in (0.1, 0.3)]
    plans += [Plan("plain", 0.0, seed) for seed in few]
    for seed in few:
        plans += [Plan("marked", share, seed) for share in (0.05, 1.0, 0.5)]
        if seed in few[:3]:
            plans += [Plan("rewritten", share, seed) for share in (1.0, 0.3)]
            plans.append(Plan("foreign", 0.3, seed))
    return plans


def train_tokenizer(texts: Sequence[str], path: Path) -> None:
    """Train a copier's own tokenizer on what it was served: 640 tokens, other merges.

    Args:
        texts: what it reads.
        path: the `tokenizer.json` to write.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    special = [AddedToken(token, special=True) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
