"""Marks read what serving engines write: published vectors, and the installed transformers."""

import numpy as np
import pytest

from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.permutation import are_in_front, permutation_front, random_words
from stillwatch.trace.marks.philox import philox4x32, vllm_words
from stillwatch.trace.marks.processor import MarkProcessor
from stillwatch.trace.marks.protocol import mark_windows
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark, derive_vllm_key, sbw_hash
from stillwatch.trace.radioactivity.windows import TokenSequence, Windows

VOCAB = 128
KEYS = (15485863, 2**40 + 12345)
#: Drawn once with the kernel that vLLM publishes: hashes of -1, 0, 1, 7 and 50,000, and the
#: colours of tokens 0 to 23 under key 123456789123.
SBW_HASHES = [0, 638944058, 1362763215, 1317901994, 1112403331]
SBW_ROWS = [
    (
        "selfhash",
        np.array([[1, 2, 3], [-1, -1, 9]]),
        ["011001001001111110101001", "001001011011101100110001"],
    ),
    ("lefthash", np.array([[5], [77]]), ["100111110001001010111101", "110101000011010100000011"]),
]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """Philox4x32-10 gives the three published answers of Random123."""
    words = [np.array([int(w, 16)], dtype=np.uint64) for w in counter.split()]
    keys = [np.array([int(w, 16)], dtype=np.uint64) for w in key.split()]
    found = " ".join(f"{int(word[0]):08x}" for word in philox4x32(tuple(words), tuple(keys)))
    assert expected == found


def test_vllm_draws_its_published_vector():
    """Key 42, two contexts and two tokens draw the mantissas of vLLM's compatibility test."""
    contexts = np.array([[1, 2, 3, 4], [4, 5, 6, 7]])
    expected = [[1661833, 10571167], [9742331, 13375724]]
    table = vllm_words(42, contexts, np.arange(32)[None, :]) >> np.uint64(8)
    assert expected == table[:, 7:9].tolist()
    for token in (7, 8):
        single = vllm_words(42, contexts, np.array([token, token])) >> np.uint64(8)
        assert [row[token - 7] for row in expected] == single.tolist()


def test_vllm_chooses_as_its_reference_path():
    """The token taken is the largest logit plus Gumbel noise in 32-bit arithmetic."""
    rng = np.random.default_rng(0)
    contexts, logits = rng.integers(0, VOCAB, (20, 4)), rng.normal(size=(20, VOCAB)) * 3
    bits = vllm_words(42, contexts, np.arange(VOCAB)[None, :]) >> np.uint64(8)
    uniforms = ((bits.astype(float) + 1) / (2**24 + 1)).astype(np.float32)
    expected = (logits.astype(np.float32) - np.log(-np.log(uniforms))).argmax(axis=1)
    assert expected.tolist() == VllmGumbelMark(42).embed(contexts, logits).argmax(axis=1).tolist()


def test_vllm_dual_keys():
    """The two keys are the published hashes, and tokens come from each by its share."""
    mark = VllmGumbelMark(42, alpha=0.25)
    first = VllmGumbelMark(derive_vllm_key(42, b"key_a"))
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, VOCAB, (2000, 4))
    flat = np.zeros((2000, VOCAB))
    by_first = mark.embed(contexts, flat).argmax(1) == first.embed(contexts, flat).argmax(1)
    assert abs(by_first.mean() - 0.75) < 0.04
    assert (0.75, 0.25) == mark.null.parts
    assert VllmGumbelMark(42, alpha=0.0).null.parts == (1.0,)


def test_sbw_hash_and_colours():
    """The integer hash and four colours are those that vLLM's published kernel gives."""
    assert SBW_HASHES == sbw_hash(np.array([-1, 0, 1, 7, 50_000])).tolist()
    for scheme, contexts, expected in SBW_ROWS:
        mark = VllmGreenMark(123456789123, scheme, contexts.shape[1])
        rows = ["".join(str(int(v)) for v in row) for row in mark.token_values(contexts, 24)]
        assert expected == rows


@pytest.mark.parametrize("n", [100, 1024])
def test_permutations_are_torchs(n):
    """Fronts, membership and raw words equal `torch.randperm` and `torch.randint` on a CPU."""
    torch = pytest.importorskip("torch")
    for seed in (0, 5, 2**32 - 1, 2**40 + 3):
        expected = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        low = seed & 0xFFFFFFFF
        assert expected[: n // 4].tolist() == permutation_front(low, n // 4, n).tolist()
        inside = are_in_front(np.full(n, low), np.arange(n), n_front=n // 4, n=n)
        assert sorted(expected[: n // 4]) == np.flatnonzero(inside).tolist()
        drawn = torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(seed)).numpy()
        assert drawn.tolist() == (random_words(seed, n) % 2).tolist()


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
@pytest.mark.parametrize("key", KEYS)
def test_green_lists_are_transformers(key, scheme, width):
    """Every green list and every marked score equals what transformers' processor gives."""
    torch = pytest.importorskip("torch")
    processors = pytest.importorskip("transformers.generation.logits_process")
    theirs = processors.WatermarkLogitsProcessor(
        VOCAB, "cpu", hashing_key=key, seeding_scheme=scheme, context_width=width
    )
    ours = TransformersGreenMark(key, VOCAB, scheme, width)
    rng = np.random.default_rng(0)
    contexts, scores = rng.integers(0, VOCAB, (6, 5)), rng.normal(size=(6, VOCAB))
    marked = theirs(torch.tensor(contexts), torch.tensor(scores)).numpy()
    assert np.array_equal(marked, ours.embed(contexts, scores))
    table = ours.token_values(contexts, VOCAB)
    for row, token in zip(range(6), rng.integers(0, VOCAB, 6), strict=True):
        seen = [*contexts[row], token] if scheme == "selfhash" else contexts[row]
        greens = theirs._get_greenlist_ids(torch.tensor(np.array(seen)))
        assert bool(token in greens) == bool(table[row, token])


def test_windows_that_share_a_seed_count_once():
    """Under selfhash many windows share a draw; under lefthash the wider context is no context."""
    rng = np.random.default_rng(1)
    contexts, tokens = rng.integers(0, VOCAB, (4000, 3)), rng.integers(0, 8, 4000)
    windows = Windows(contexts, tokens, np.ones(4000, dtype=np.int64))
    self_hash = TransformersGreenMark(15485863, VOCAB, "selfhash", 4)
    n_rows = len(np.unique(np.column_stack([contexts, tokens]), axis=0))
    assert self_hash.score(windows, VOCAB).n_windows < n_rows / 4
    left = TransformersGreenMark(15485863, VOCAB, "lefthash", 4)
    assert 1 == left.context_width
    after_zero = Windows(np.array([[0], [1]]), np.array([5, 5]), np.array([1, 1]))
    assert [True, False] == np.isnan(left.values(after_zero, VOCAB)).tolist()


def tiny_model():
    """A GPT-2 with random weights, made from a configuration."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=96, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=VOCAB - 1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return torch, transformers, transformers.GPT2LMHeadModel(config).eval()


def generate(parts, prompt, **options):
    """Sample 60 tokens with a fixed seed."""
    torch, _, model = parts
    torch.manual_seed(1)
    mask = torch.ones_like(prompt)
    return model.generate(
        prompt, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=60, **options
    ).numpy()


def test_generate_writes_what_we_read():
    """`generate` with its own configuration and with our processor writes the same tokens, and
    the mark is found in them: lefthash, selfhash and SynthID.
    """  # noqa: D205 - one sentence
    parts = tiny_model()
    torch, transformers, _ = parts
    prompt = torch.tensor(np.random.default_rng(2).integers(1, VOCAB, (6, 5)))
    keys = [int(k) for k in np.random.default_rng(3).integers(1, 2**31, 30)]
    synthid = {"ngram_len": 5, "keys": keys}
    cases = [
        (
            transformers.WatermarkingConfig(hashing_key=KEYS[0], bias=4.0),
            TransformersGreenMark(KEYS[0], VOCAB, bias_nats=4.0),
        ),
        (
            transformers.WatermarkingConfig(
                hashing_key=KEYS[0], bias=4.0, seeding_scheme="selfhash", context_width=3
            ),
            TransformersGreenMark(KEYS[0], VOCAB, "selfhash", 3, bias_nats=4.0),
        ),
        (transformers.SynthIDTextWatermarkingConfig(**synthid), SynthIdMark(tuple(keys))),
    ]
    for configured, mark in cases:
        theirs = generate(parts, prompt, watermarking_config=configured)
        processor = MarkProcessor(mark, n_prompt=5)
        processors = transformers.LogitsProcessorList([processor])
        ours = generate(parts, prompt, logits_processor=processors)
        assert theirs.tolist() == ours.tolist()
        texts = [TokenSequence(row, n_prompt=5) for row in theirs]
        windows = mark_windows(texts, mark, vocab_size=VOCAB)
        assert mark.score(windows, VOCAB).log10_p < -5


def test_generate_with_a_choosing_mark():
    """A Gumbel mark leaves `generate` no choice, except after a context that was used before."""
    parts = tiny_model()
    torch, transformers, _ = parts
    prompt = torch.tensor(np.random.default_rng(2).integers(1, VOCAB, (3, 5)))
    mark = VllmGumbelMark(42)
    processor = MarkProcessor(mark, n_prompt=5, temperature=0.7)
    processors = transformers.LogitsProcessorList([processor])
    written = generate(parts, prompt, logits_processor=processors, temperature=0.7)
    texts = [TokenSequence(row, n_prompt=5) for row in written]
    found = mark.score(mark_windows(texts, mark, vocab_size=VOCAB), VOCAB)
    assert found.log10_p < -50
    once = processor(torch.tensor(written[:, :20]), torch.zeros(3, VOCAB))
    assert [1, 1, 1] == torch.isfinite(once).sum(dim=1).tolist()
    looped = np.concatenate([written[:, :9], written[:, 5:9]], axis=1)
    again = processor(torch.tensor(looped), torch.zeros(3, VOCAB))
    assert [VOCAB] * 3 == torch.isfinite(again).sum(dim=1).tolist()
