"""What was written beside what was to be expected."""

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.model.folder import (
    ChatTokenizer,
    GenerationDefaults,
    save_model,
    write_character_tokenizer,
)
from stillwatch.trace.radioactivity.likelihood import FolderChances, read_excess, written_excess
from stillwatch.trace.radioactivity.windows import TokenSequence

TEXTS = [TokenSequence([0, 1, 2, 1], n_prompt=2), TokenSequence([3, 1, 2], n_prompt=1)]
CHANCES = np.array([[0.1, 0.2, 0.3, 0.4]] * 4)


def fixed(table):
    """A model that knows the token before only."""

    def read(texts):
        for ids in texts:
            yield np.asarray(table)[np.asarray(ids)[:-1]].astype(np.float32)

    return read


def test_written_and_expected_are_counted_at_the_same_places():
    """Counts and chances are added up over the places of the answers, questions' windows left."""
    found = written_excess(TEXTS, fixed(CHANCES), vocab_size=4)
    rows = {
        (int(c[0]), int(t)): (float(o), round(float(e), 6))
        for c, t, o, e in zip(found.context_ids, found.token_ids, *found[2:], strict=True)
    }
    # Answers' places follow 1 twice, 2 once and 3 once; no question holds a window but (0, 1).
    assert (2.0, 0.6) == rows[1, 2]
    assert (1.0, 0.2) == rows[2, 1]
    assert (1.0, 0.2) == rows[3, 1]
    assert (0.0, 0.8) == rows[1, 3]
    assert 12 == len(rows)


def test_windows_of_a_question_are_left_out():
    """A window that any question holds counts for nobody."""
    texts = [*TEXTS, TokenSequence([1, 2, 0], n_prompt=2)]
    found = written_excess(texts, fixed(CHANCES), vocab_size=4)
    assert (1, 2) not in {
        (int(c[0]), int(t)) for c, t in zip(found.context_ids, found.token_ids, strict=True)
    }


def test_wide_windows_and_large_vocabularies_add_up_alike():
    """Adding up window by window gives what the table of all pairs gives."""
    dense = read_excess(TEXTS, fixed(CHANCES), fixed(CHANCES[:, ::-1]), vocab_size=4)
    wide = np.zeros((4, 5_000))
    wide[:, :4] = CHANCES
    back = np.zeros((4, 5_000))
    back[:, :4] = CHANCES[:, ::-1]
    sparse = read_excess(TEXTS, fixed(wide), fixed(back), vocab_size=5_000)
    assert dense.observed.tolist() == pytest.approx(sparse.observed.tolist())
    assert dense.expected.tolist() == pytest.approx(sparse.expected.tolist())
    two = read_excess(TEXTS, fixed(CHANCES), fixed(CHANCES), vocab_size=4, context_width=2)
    assert [[0, 1], [1, 2], [3, 1]] == np.unique(two.context_ids, axis=0).tolist()
    assert two.observed.tolist() == pytest.approx(two.expected.tolist())


def test_a_folder_reads_each_text_as_if_it_were_alone(tmp_path):
    """A model folder's chances add up to 1 and do not depend on the texts beside."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = write_character_tokenizer("abcdef", tmp_path / "tokenizer.json")
    config = LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    save_model(
        LlamaForCausalLM(config),
        tokenizer=ChatTokenizer(tokenizer),
        out=tmp_path / "model",
        defaults=GenerationDefaults(),
    )
    chances = FolderChances(tmp_path / "model")
    texts = [np.array([1, 7, 8, 9]), np.array([1, 6]), np.array([2, 6, 7, 8, 9, 10])]
    rows = list(chances(texts))
    assert [(3, 12), (1, 12), (5, 12)] == [row.shape for row in rows]
    for text, row in zip(texts, rows, strict=True):
        assert row.sum(axis=1).tolist() == pytest.approx([1.0] * len(row), abs=1e-5)
        assert row.ravel().tolist() == pytest.approx(
            next(chances([text])).ravel().tolist(), abs=1e-5
        )


def test_windows_that_cannot_be_numbered_are_refused():
    """Too wide a window, or an id outside the vocabulary, is refused."""
    with pytest.raises(InvalidInputError, match="context_width must be small enough"):
        written_excess(TEXTS, fixed(CHANCES), vocab_size=10**7, context_width=3)
    with pytest.raises(InvalidInputError, match=r"token_ids must be in 0\.\.2"):
        written_excess(TEXTS, fixed(CHANCES), vocab_size=3)
    with pytest.raises(InvalidInputError, match="temperature must be above 0"):
        FolderChances(None, temperature=0.0)
