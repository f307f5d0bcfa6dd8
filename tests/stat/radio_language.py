"""A language of a random bigram matrix: models whose chances are known exactly."""

import numpy as np

from stillwatch.trace.radioactivity.windows import TokenSequence

VOCAB = 200


def language(seed=7, vocab=VOCAB):
    """Chances of the next token after each token, shape (vocab, vocab)."""
    chances = np.random.default_rng(seed).dirichlet(np.full(vocab, 0.1), size=vocab) + 1e-9
    return chances / chances.sum(axis=1, keepdims=True)


def marked(chances, mark, delta=None):
    """The same language with a mark's push, or with a fainter one."""
    vocab = len(chances)
    green = mark.green(np.arange(vocab)[:, None], vocab)
    pushed = chances * np.exp(green * (mark.delta if delta is None else delta))
    return pushed / pushed.sum(axis=1, keepdims=True)


def reader(chances):
    """A model's chances at every place of a text."""

    def read(texts):
        for ids in texts:
            yield chances[np.asarray(ids)[:-1]].astype(np.float32)

    return read


def write(chances, *, seed, n_texts=200, length=30):
    """Texts of a language; the first token of each is the question."""
    rng = np.random.default_rng(seed)
    reach = np.cumsum(chances, axis=1)
    columns = [rng.integers(0, len(chances), n_texts)]
    for _ in range(length):
        drawn = rng.random(n_texts)[:, None] * reach[columns[-1], -1:]
        columns.append((reach[columns[-1]] < drawn).sum(axis=1))
    return [TokenSequence(row, n_prompt=1) for row in np.stack(columns, axis=1)]
