"""A suspect with another tokenizer is read where both tokenizers agree."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from stillwatch.model.folder import SPECIAL_TOKENS, UNKNOWN, ChatTokenizer
from stillwatch.trace.radioactivity.likelihood import read_excess
from stillwatch.trace.radioactivity.shared_tokens import SharedTokens
from stillwatch.trace.radioactivity.windows import TokenSequence

TEXT = "the thing that the other thing told the rest of them then and there"


def tokenizer(path, size):
    """A byte-pair tokenizer of this size in the house's format."""
    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Metaspace(prepend_scheme="never")
    special = [AddedToken(token, special=True) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    made.train_from_iterator([TEXT] * 3, trainer)
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Ours with more merges than theirs."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return tokenizer(folder / "ours.json", 40), tokenizer(folder / "theirs.json", 24)


def rising(vocab):
    """A model that always gives higher chances to higher ids, so that each is told apart."""
    chances = np.arange(1, vocab + 1, dtype=np.float32)

    def read(texts):
        for ids in texts:
            yield np.tile(chances / chances.sum(), (len(ids) - 1, 1))

    return read


def test_places_and_tokens_that_both_share_are_compared(pair):
    """Chances add up to 1 over shared tokens at shared places, and are missing elsewhere."""
    shared = SharedTokens(*pair)
    ours, theirs = (ChatTokenizer(path) for path in pair)
    for mine, other in zip(shared.our_ids, shared.their_ids, strict=True):
        assert ours.token_text(int(mine)) == theirs.token_text(int(other))
    ids, n_prompt = ours.encode_pair("told", TEXT)
    text = np.array(ids)
    their_rows = next(shared.suspect(rising(theirs.vocab_size))([text]))
    our_rows = next(shared.unmarked(rising(ours.vocab_size))([text]))
    assert (len(ids) - 1, ours.vocab_size) == their_rows.shape == our_rows.shape
    read = ~np.isnan(their_rows[:, 0])
    assert read.tolist() == (~np.isnan(our_rows[:, 0])).tolist()
    # Nothing of the question is read, its last place is the answer's first token.
    assert not read[: n_prompt - 1].any()
    assert read[n_prompt - 1]
    # Their merges are the first of ours, so all of our places are places of theirs.
    assert read[n_prompt - 1 :].all()
    for rows in (their_rows, our_rows):
        assert rows[read].sum(axis=1).tolist() == pytest.approx([1.0] * int(read.sum()), rel=1e-5)
    picked = np.sort(their_rows[n_prompt][shared.our_ids])
    wanted = np.sort(shared.their_ids + 1.0)
    assert picked.tolist() == pytest.approx((wanted / wanted.sum()).tolist(), rel=1e-5)


def test_places_inside_their_tokens_are_left_out(pair):
    """Read from the smaller tokenizer, places inside the larger one's tokens are missing."""
    theirs, ours = pair
    shared = SharedTokens(ours, theirs)
    ids, n_prompt = ChatTokenizer(ours).encode_pair("told", TEXT)
    rows = next(shared.suspect(rising(ChatTokenizer(theirs).vocab_size))([np.array(ids)]))
    n_read = int((~np.isnan(rows[n_prompt - 1 :, 0])).sum())
    # One place for each token of theirs, the closing one included.
    assert len(ChatTokenizer(theirs).token_ids(TEXT)) + 1 == n_read


def test_one_tokenizer_shares_everything_and_an_equal_model_shows_no_excess(pair):
    """Against itself every place is shared, and a model shows no excess over itself."""
    ours = pair[0]
    shared = SharedTokens(ours, ours)
    vocab = ChatTokenizer(ours).vocab_size
    ids, n_prompt = ChatTokenizer(ours).encode_pair("told", TEXT)
    found = read_excess(
        [TokenSequence(ids, n_prompt)],
        shared.suspect(rising(vocab)),
        shared.unmarked(rising(vocab)),
        vocab_size=vocab,
    )
    assert found.observed.tolist() == pytest.approx(found.expected.tolist())
    assert found.observed.sum() == pytest.approx(len(ids) - n_prompt, rel=0.2)
