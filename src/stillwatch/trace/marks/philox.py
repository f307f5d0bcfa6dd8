"""Philox4x32-10, the counter-based generator behind vLLM's marks, in whole arrays.

Source: Salmon et al. 2011 (doi 10.1145/2063384.2063405); checked against the known-answer vectors
of Random123. The way contexts and tokens enter it follows vLLM's "philox4x32-10-v1".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillwatch.trace.radioactivity.windows import Ids

Words = npt.NDArray[np.uint64]

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
#: "WMCX" and "WMTK": vLLM keeps the hashing of contexts and of tokens apart by these words.
_CONTEXT_DOMAIN = np.uint64(0x574D4358)
_TOKEN_DOMAIN = np.uint64(0x574D544B)


def philox4x32(
    counter: tuple[Words, Words, Words, Words], key: tuple[Words | np.uint64, Words | np.uint64]
) -> list[Words]:
    """Run ten rounds of Philox on 32-bit words held in 64.

    Args:
        counter: four words, arrays that broadcast with each other and with the key.
        key: two words.

    Returns:
        Four words of output.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (right >> _HALF) ^ c1 ^ k0,
            right & _LOW,
            (left >> _HALF) ^ c3 ^ k1,
            left & _LOW,
        )
        k0, k1 = (k0 + _STEPS[0]) & _LOW, (k1 + _STEPS[1]) & _LOW
    return [c0, c1, c2, c3]


def context_state(key: int, context_ids: Ids) -> list[Words]:
    """Hash contexts under a 64-bit key as vLLM does.

    Args:
        key: 0 .. 2 ** 64 - 1.
        context_ids: shape (n, k); -1 stands before the answer's first token.

    Returns:
        Four words of shape (n,).
    """
    n, width = context_ids.shape
    k0, k1 = _key_words(key)
    words = context_ids.astype(np.uint64) & _LOW
    zeros = np.zeros(n, dtype=np.uint64)
    state = [zeros + _CONTEXT_DOMAIN, zeros + np.uint64(width), zeros, zeros]
    for offset in range(0, width, 4):
        blocks = [
            words[:, offset + i] if offset + i < width else zeros + np.uint64(0xFFFFFFFF - i)
            for i in range(4)
        ]
        s0, s1, s2, s3 = (word ^ block for word, block in zip(state, blocks, strict=True))
        state = philox4x32((s0, s1, s2, s3), (zeros + (k0 ^ np.uint64(offset)), zeros + k1))
    return state


def vllm_words(key: int, context_ids: Ids, token_ids: Ids) -> Words:
    """Draw vLLM's word of each window.

    Args:
        key: the 64-bit key.
        context_ids: shape (n, k).
        token_ids: shape (n,), one token a context, or (1, V), the tokens 0 .. V - 1 after each.

    Returns:
        Words below 2 ** 32 of shape (n,) or (n, V).
    """
    state = context_state(key, context_ids)
    if token_ids.ndim == 2:
        n_tokens = token_ids.shape[1]
        # Four neighbouring tokens share one run of Philox.
        quads = np.arange((n_tokens + 3) // 4, dtype=np.uint64)[None, :]
        stacked = np.stack(_run(key, [word[:, None] for word in state], quads), axis=-1)
        return stacked.reshape(len(context_ids), -1)[:, :n_tokens]
    tokens = token_ids.astype(np.uint64) & _LOW
    outputs = _run(key, state, tokens >> np.uint64(2))
    return np.choose((tokens & np.uint64(3)).astype(np.intp), outputs)


def _run(key: int, state: list[Words], quads: Words) -> list[Words]:
    """Give the words of four neighbouring tokens after hashed contexts, one array each."""
    k0, k1 = _key_words(key)
    counter = quads, state[0], state[1], state[2]
    return philox4x32(counter, (state[3] ^ k0, k1 ^ _TOKEN_DOMAIN))


def _key_words(key: int) -> tuple[np.uint64, np.uint64]:
    return np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
