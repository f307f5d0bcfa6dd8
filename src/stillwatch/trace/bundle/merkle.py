"""Merkle trees over SHA-256: one short root for many pieces, any of which may be kept back.

The tree is that of RFC 6962 and RFC 9162, the one of Certificate Transparency: leaves and inner
nodes are hashed under different first bytes, so that no piece can pass for a node, and an odd node
is carried up as it is, so that no two lists of pieces share a root.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from stillwatch.errors import reject

_LEAF, _NODE = b"\x00", b"\x01"


def hash_leaf(content: bytes) -> bytes:
    """Hash one piece.

    Args:
        content: the piece; a piece that could be guessed needs a salt inside it.

    Returns:
        32 bytes.
    """
    return hashlib.sha256(_LEAF + content).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Hash two neighbours into the node above them.

    Args:
        left: hash of the left one.
        right: hash of the right one.

    Returns:
        32 bytes.
    """
    return hashlib.sha256(_NODE + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Compute the root over hashed leaves.

    Args:
        leaves: from `hash_leaf`, in order.

    Returns:
        32 bytes; of no leaves the hash of nothing.
    Source: RFC 9162 section 2.1.1.
    Example:
        >>> merkle_root([]).hex()[:16]
        'e3b0c44298fc1c14'
    """
    level = list(leaves)
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Collect what shows that one leaf is in the tree, without any other leaf.

    Args:
        leaves: from `hash_leaf`, in order.
        index: which leaf, 0..len - 1.

    Returns:
        The neighbours on the way up, the lowest first: about log2(len) of them.

    Raises:
        InvalidInputError: there is no such leaf.
    Source: RFC 9162 section 2.1.3.1.
    """
    if not 0 <= index < len(leaves):
        reject("merkle.inclusion_proof", "index", f"in 0..{len(leaves) - 1}", got=index)
    level, path = list(leaves), []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level, index = _level_above(level), index // 2
    return tuple(path)


def proves_inclusion(
    leaf: bytes, path: Sequence[bytes], root: bytes, *, index: int, n_leaves: int
) -> bool:
    """Check that a leaf stands at its place under a root.

    Args:
        leaf: from `hash_leaf`.
        path: from `inclusion_proof`.
        root: of the whole tree.
        index: the leaf's place.
        n_leaves: leaves of the whole tree (count).

    Returns:
        Whether it does; False for a path that is too long or too short.
    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < n_leaves:
        return False
    found, last, rest = leaf, n_leaves - 1, list(path)
    while last:
        if index % 2 or index < last:
            if not rest:
                return False
            beside = rest.pop(0)
            found = hash_node(beside, found) if index % 2 else hash_node(found, beside)
        index, last = index // 2, last // 2
    return not rest and hmac.compare_digest(found, root)


def _level_above(level: list[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [hash_node(left, right) for left, right in pairs]
    return above + level[-1:] if len(level) % 2 else above
