"""Every test on every student: one line of the ledger each, written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from radio.students import N_ASKED, Cache, Plan, all_marks, campaign_of
from stillwatch.distill.training.train import Pair
from stillwatch.siege.prose import (
    as_sequences,
    ask_suspect,
    is_held_out,
    passages,
    split_passage,
)
from stillwatch.siege.teachers import house_teacher
from stillwatch.trace.radioactivity.closed import rank_campaigns
from stillwatch.trace.radioactivity.likelihood import (
    FolderChances,
    NextChances,
    read_excess,
    written_excess,
)
from stillwatch.trace.radioactivity.served import (
    served_chances,
    test_served_closed,
    test_served_open,
)
from stillwatch.trace.radioactivity.shared_tokens import shared_chances
from stillwatch.trace.radioactivity.weighted import (
    rank_weighted,
    test_weighted,
    weigh_windows,
)
from stillwatch.trace.radioactivity.weights import Excess
from stillwatch.trace.radioactivity.windows import TokenSequence
from stillwatch.trace.watermark import GreenListMark, distinct_windows

VOCABULARY = 1024
#: Of the campaign's questions so many are asked again, each so often.
N_SERVED, N_TIMES = 200, 10
#: Students with at most this share of marked answers, and innocents, are asked as often once more.
_WEAK = 0.1
#: Ordinary texts on which an open suspect's chances are read.
N_TEXTS = 600
N_DECOYS = 199
#: Special tokens that no answer holds; the closing one may.
FORBIDDEN = (0, 1, 3, 4, 5)


class Scorer:
    """Runs the tests; holds what all students share.

    Args:
        cache: of the students.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.teacher_folder = house_teacher("house-prose")
        self.teacher = FolderChances(self.teacher_folder)
        self.marks = all_marks()
        rng = np.random.default_rng(20_262)
        unseen = [one for one in passages() if is_held_out(one)]
        chosen = [unseen[i] for i in rng.permutation(len(unseen))[:N_TEXTS]]
        pairs = [Pair(*split_passage(one, rng)) for one in chosen]
        self.texts = self._sequences(pairs)

    def score(self, plan: Plan) -> dict[str, Any]:
        """Run every test on one student.

        Args:
            plan: the student; trained and asked now when it is not there.

        Returns:
            Plain numbers: log10 of p by test, ranks of the true key among 50, the worst of the
            wrong ones.
        """
        folder = self.cache.student(plan)
        campaign = campaign_of(plan.seed)
        mark = self.marks[campaign]
        heard = self._sequences(self.cache.answers(plan))
        again = self._sequences(self._asked_again(plan, folder))
        row: dict[str, Any] = {"name": plan.name, "kind": plan.kind, "share": plan.share}
        row |= {"seed": plan.seed, "cost_s": json.loads((folder / "cost.json").read_text())}
        for n in (N_ASKED // 2, N_ASKED):
            row |= self._counted(f"closed-{n}", heard[:n], mark)
        row |= self._counted("asked-again", again, mark)
        excesses = {
            f"closed-{N_ASKED}": self._written(heard),
            "asked-again": self._written(again),
            "both": self._written([*heard, *again]),
            "open": self._read(plan, folder),
        }
        for name, excess in excesses.items():
            row |= self._weighted(name, excess, campaign)
        if plan.share <= _WEAK:
            more = self._sequences(self._asked_again(plan, folder, longer=True))
            row |= self._weighted("asked-longer", self._written([*again, *more]), campaign)
        row |= self._named(heard, campaign)
        # The student of no mark is held against answers it never saw, like everybody.
        return row | self._served(plan, folder, excesses["asked-again"])

    def _asked_again(self, plan: Plan, folder: Path, *, longer: bool = False) -> list[Pair]:
        path = folder / ("asked-longer.json" if longer else "asked-again.json")
        if not path.exists():
            served = self.cache.served(plan.seed, marked=True, n=N_SERVED)
            questions = [one.question for one in served] * N_TIMES
            asked = ask_suspect(folder, questions, seed=plan.seed * 7_000_003 + 2_000 * longer)
            path.write_bytes(msgspec.json.encode(asked))
        return [Pair(*one) for one in json.loads(path.read_text("utf-8"))]

    def _counted(
        self, name: str, sequences: list[TokenSequence], mark: GreenListMark
    ) -> dict[str, float]:
        windows = distinct_windows(sequences, vocab_size=VOCABULARY)
        repeated = windows.most_repeated(1_000)
        return {
            f"{name}/all": mark.count(windows).p_value().log10_p,
            f"{name}/repeated": mark.count(repeated).p_value().log10_p,
            f"{name}/rate": mark.count(repeated).green_rate,
            f"{name}/tokens": float(sum(len(s.token_ids) - s.n_prompt for s in sequences)),
        }

    def _weighted(self, name: str, excess: Excess, campaign: str) -> dict[str, Any]:
        weighed = weigh_windows(excess)
        rng = np.random.default_rng(7)
        found = test_weighted(
            weighed, self.marks[campaign], vocab_size=VOCABULARY, rng=rng, n_decoys=N_DECOYS
        )
        ranked = rank_weighted(weighed, self.marks, vocab_size=VOCABULARY)
        wrong = [one for one in ranked if one.campaign_id != campaign]
        return {
            f"{name}/weighted": found.log10_p,
            f"{name}/weighted-e": found.e_log10,
            f"{name}/weighted-ks": found.ks_p_value_of_decoys,
            f"{name}/weighted-rank": found.decoy_rank_p,
            f"{name}/weighted-first": ranked[0].campaign_id == campaign,
            f"{name}/weighted-holm": next(
                one.adjusted_log10_p for one in ranked if one.campaign_id == campaign
            ),
            f"{name}/wrong-keys": [one.log10_p for one in wrong],
            f"{name}/wrong-holm": min(one.adjusted_log10_p for one in wrong),
        }

    def _named(self, heard: list[TokenSequence], campaign: str) -> dict[str, Any]:
        ranked = rank_campaigns(heard[: N_ASKED // 2], self.marks, vocab_size=VOCABULARY)
        wrong = [one.adjusted_log10_p for one in ranked if one.campaign_id != campaign]
        return {
            "closed-1000/repeated-first": ranked[0].campaign_id == campaign,
            "closed-1000/repeated-wrong-holm": min(wrong),
        }

    def _served(self, plan: Plan, folder: Path, excess: Excess) -> dict[str, Any]:
        served = self.cache.served(plan.seed, marked=True, n=N_SERVED)
        if plan.share > 0:
            served = served[: round(plan.share * 2_000)]
        sequences = [
            TokenSequence([*s.prompt_ids, *s.token_ids], len(s.prompt_ids)) for s in served
        ]
        mark = self.marks[campaign_of(plan.seed)]
        chances = list(
            served_chances(
                sequences, self.teacher, mark=mark, vocab_size=VOCABULARY, forbidden=FORBIDDEN
            )
        )
        heard = test_served_closed(chances, excess)
        read = test_served_open(chances, self._chances(plan, folder)[0])
        return {
            "served/tokens": heard.n_places,
            "served/closed": heard.e_log10,
            "served/closed-score": heard.standard_score,
            "served/open": read.e_log10,
            "served/open-score": read.standard_score,
        }

    def _written(self, sequences: list[TokenSequence]) -> Excess:
        return written_excess(sequences, self.teacher, vocab_size=VOCABULARY)

    def _read(self, plan: Plan, folder: Path) -> Excess:
        return read_excess(self.texts, *self._chances(plan, folder), vocab_size=VOCABULARY)

    def _chances(self, plan: Plan, folder: Path) -> tuple[NextChances, NextChances]:
        if plan.kind == "foreign":
            return shared_chances(self.teacher_folder, folder, self.teacher)
        return FolderChances(folder), self.teacher

    def _sequences(self, pairs: list[Pair]) -> list[TokenSequence]:
        return as_sequences(pairs, tokenizer=self.teacher_folder)
