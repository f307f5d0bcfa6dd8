"""Models with a style of their own that answer questions; students blend in a teacher's."""

import numpy as np

from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.answer_table import table_of

N_WORDS = 300
WORDS = np.array([f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(N_WORDS)])


def styles(seed, n_models, *, students=(), learned=0.5, push=0.6):
    """Log-weights of words: independent models first, then one student for each named teacher."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0.0, push, (n_models + len(students), N_WORDS))
    for number, teacher in enumerate(students, start=n_models):
        own[number] = learned * own[teacher] + (1 - learned) * own[number]
    return own


def answers_of(seed, taste, *, n_questions=20, length=60, names=None):
    """A table: each question has a topic that all models share, each answer is `length` words."""
    rng = np.random.default_rng(seed)
    names = names or [f"m{number}" for number in range(len(taste))]
    outputs = {name: [] for name in names}
    for question in range(n_questions):
        topic = rng.normal(0.0, 1.5, N_WORDS)
        for name, row in zip(names, taste, strict=True):
            chances = np.exp(topic + row)
            said = rng.choice(WORDS, length, p=chances / chances.sum())
            outputs[name].append(SuspectOutput(answer=" ".join(said), question=f"q{question}"))
    return table_of(outputs)
