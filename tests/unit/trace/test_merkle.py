"""Merkle trees: the published values, and proofs that hold for their leaf alone."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError
from stillwatch.trace.bundle.merkle import (
    hash_leaf,
    hash_node,
    inclusion_proof,
    merkle_root,
    proves_inclusion,
)

# The inputs and roots that the Certificate Transparency projects test their own trees with.
PIECES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("n", range(1, 9))
def test_published_roots(n: int) -> None:
    """The tree is Certificate Transparency's: eight published roots come out."""
    assert ROOTS[n - 1] == merkle_root([hash_leaf(piece) for piece in PIECES[:n]]).hex()


def test_empty_tree() -> None:
    """The root of no leaves is the hash of nothing."""
    assert hashlib.sha256(b"").digest() == merkle_root([])


def test_a_piece_is_never_a_node() -> None:
    """A piece made of two hashes does not hash to the node above them."""
    left, right = hash_leaf(b"a"), hash_leaf(b"b")
    assert hash_leaf(left + right) != hash_node(left, right)


def test_doubling_the_last_leaf_changes_the_root() -> None:
    """Three leaves and the same three with the last repeated have different roots."""
    leaves = [hash_leaf(piece) for piece in PIECES[:3]]
    assert merkle_root(leaves) != merkle_root([*leaves, leaves[-1]])


@given(st.integers(1, 70), st.data())
def test_every_leaf_is_proved(n: int, data: st.DataObject) -> None:
    """A proof holds for its leaf, place and size, and for nothing else."""
    leaves = [hash_leaf(bytes([i])) for i in range(n)]
    index = data.draw(st.integers(0, n - 1))
    root, path = merkle_root(leaves), inclusion_proof(leaves, index)
    assert proves_inclusion(leaves[index], path, root, index=index, n_leaves=n)
    wrong = [
        proves_inclusion(hash_leaf(b"other"), path, root, index=index, n_leaves=n),
        proves_inclusion(leaves[index], (*path, root), root, index=index, n_leaves=n),
        proves_inclusion(leaves[index], path, hash_leaf(b""), index=index, n_leaves=n),
        proves_inclusion(leaves[index], path, root, index=n, n_leaves=n),
        n > 1 and proves_inclusion(leaves[index], path[1:], root, index=index, n_leaves=n),
        n > 1 and proves_inclusion(leaves[index], path, root, index=index ^ 1, n_leaves=n + n % 2),
    ]
    assert [False] * 6 == wrong


def test_no_such_leaf() -> None:
    """A proof of a leaf that is not there is refused with the range."""
    with pytest.raises(InvalidInputError, match=r"index must be in 0\.\.0, got 1"):
        inclusion_proof([hash_leaf(b"a")], 1)
