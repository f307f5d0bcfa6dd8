"""One mark of every scheme, and text that a simple model writes under a mark."""

import numpy as np

from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark
from stillwatch.trace.radioactivity.windows import TokenSequence
from stillwatch.trace.watermark import campaign_mark

VOCAB = 128
KEY = b"a key of the tests, long enough"
MARKS = {
    "green": as_mark(campaign_mark(KEY, "c")),
    "gumbel": gumbel_mark(KEY),
    "gumbel 2": gumbel_mark(KEY, context_width=2),
    "tournament": tournament_mark(KEY),
    "lefthash": TransformersGreenMark(15485863, VOCAB, "lefthash", 3),
    "selfhash": TransformersGreenMark(15485863, VOCAB, "selfhash", 3),
    "selfhash 1": TransformersGreenMark(15485863, VOCAB, "selfhash", 1),
    "synthid": SynthIdMark(tuple(range(900, 930)), ngram_len=3),
    "synthid flat": SynthIdMark(tuple(range(900, 930)), ngram_len=3, falling=False),
    "vllm gumbel": VllmGumbelMark(42),
    "vllm dual": VllmGumbelMark(42, alpha=0.1),
    "vllm red-green": VllmGreenMark(42, "philox", gamma=0.25),
    "vllm sbw": VllmGreenMark(42, "selfhash", 3),
    "vllm sbw left": VllmGreenMark(42, "lefthash", 1),
}


def written(mark=None, *, seed=0, n_texts=8, length=60):
    """Let a skewed bigram model write, under a mark or without one."""
    chances = np.random.default_rng(7).dirichlet(np.full(VOCAB, 0.3), size=VOCAB) + 1e-9
    logs = np.log(chances / chances.sum(axis=1, keepdims=True))
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCAB, (n_texts, 4))
    for _ in range(length):
        scores = logs[ids[:, -1]]
        if mark is not None:
            history = ids if mark.pad is None else padded(ids[:, 4:], mark)
            width = mark.context_width
            scores = mark.embed(history[:, history.shape[1] - width :], scores)
        noise = rng.gumbel(size=scores.shape)
        ids = np.column_stack([ids, (scores + noise).argmax(axis=1)])
    return [TokenSequence(row, n_prompt=4) for row in ids]


def padded(answers, mark):
    """Put the scheme's filler before the answers."""
    filler = np.full((len(answers), mark.context_width), mark.pad)
    return np.column_stack([filler, answers])
