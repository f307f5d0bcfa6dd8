"""Commitments hide, bind, and are kept until they are opened."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatch.errors import InvalidInputError, RecordError
from stillwatch.trace.bundle.commitments import (
    BOOK,
    FILES,
    OPENINGS,
    REQUEST,
    SECRET,
    Opening,
    Secret,
    book_stamps,
    commit,
    decode_book,
    decode_openings,
    encode_book,
    opens,
    write_commitments,
)

NONCE = bytes(range(32))
KEY = Secret("key", b"k" * 16)


def test_a_commitment_opens_to_its_content_only() -> None:
    """The nonce and the content open it; another of either, or another name, does not."""
    made = commit("mark", KEY, nonce=NONCE)
    opening = Opening(name="mark", nonce=NONCE.hex())
    assert opens(made, opening, KEY.content)
    wrong = [
        opens(made, opening, b"k" * 17),
        opens(made, Opening(name="mark", nonce=bytes(32).hex()), KEY.content),
        opens(made, Opening(name="other", nonce=NONCE.hex()), KEY.content),
        opens(made, Opening(name="mark", nonce="no hex"), KEY.content),
        opens(made, Opening(name="mark", nonce="00"), KEY.content),
    ]
    assert [False] * 5 == wrong


@given(st.binary(max_size=40), st.binary(min_size=32, max_size=32))
def test_parts_cannot_be_shifted(content: bytes, nonce: bytes) -> None:
    """Moving a letter from the kind or the content into the name gives another digest."""
    whole = commit("ab", Secret("key", content), nonce=nonce)
    assert whole.digest != commit("a", Secret("key", b"b" + content), nonce=nonce).digest
    assert whole.digest != commit("ab", Secret("plan", content), nonce=nonce).digest


def test_equal_secrets_look_different(tmp_path, authority) -> None:
    """Two commitments to one content share nothing: nobody can try guesses against them."""
    book = write_commitments(tmp_path, {"a": KEY, "b": KEY}, now=1.0)
    assert 2 == len({one.digest for one in book.commitments})


def test_what_is_written(tmp_path, authority) -> None:
    """The public file hides the secret; the secret one is its owner's and opens every name."""
    secret = {"keys/mark": KEY, "plan.json": Secret("plan", b"{}")}
    book = write_commitments(tmp_path / "c", secret, now=5.0)
    folder = tmp_path / "c"
    assert book == decode_book((folder / BOOK).read_bytes())
    assert b"kkkk" not in (folder / BOOK).read_bytes() + (folder / REQUEST).read_bytes()
    openings = decode_openings((folder / SECRET / OPENINGS).read_bytes())
    for one in book.commitments:
        content = (folder / SECRET / FILES / one.name).read_bytes()
        assert opens(one, openings[one.name], content)
    assert 0o700 == stat.S_IMODE((folder / SECRET).stat().st_mode)
    assert 0o600 == stat.S_IMODE((folder / SECRET / OPENINGS).stat().st_mode)


def test_an_authority_witnesses_a_book(tmp_path, authority) -> None:
    """The request that lies beside a book is answered, and the answer is about that book."""
    write_commitments(tmp_path, {"mark": KEY}, now=5.0)
    answer = authority.answer((tmp_path / REQUEST).read_bytes())
    (tmp_path / "first.tsr").write_bytes(answer)
    assert ["first.tsr"] == list(book_stamps(tmp_path))
    assert "Verification: OK" in authority.own_view((tmp_path / BOOK).read_bytes(), answer)


def test_commitments_are_never_rewritten(tmp_path, authority) -> None:
    """A folder that holds commitments takes no others."""
    write_commitments(tmp_path, {"mark": KEY})
    with pytest.raises(RecordError, match="holds commitments already"):
        write_commitments(tmp_path, {"other": KEY})


def test_an_altered_book_is_refused(tmp_path, authority) -> None:
    """A book with other spacing is not the file that was time-stamped."""
    book = write_commitments(tmp_path, {"mark": KEY})
    for content in (encode_book(book)[:-1], b"[]", b"\xff"):
        with pytest.raises(RecordError, match=r"commitments\.json"):
            decode_book(content)
    with pytest.raises(RecordError, match=r"openings\.json: not a list"):
        decode_openings(b"{}")


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ({}, "secret must be at least one"),
        ({"../key": KEY}, "a file's name must be"),
        ({"key": Secret("password", b"x")}, "kind must be one of key, assignment"),
    ],
)
def test_what_cannot_be_committed_to(tmp_path, authority, secret, told) -> None:
    """Nothing, a name that leads elsewhere, and an unknown kind are refused, and nothing stays."""
    with pytest.raises(InvalidInputError, match=told):
        write_commitments(tmp_path / "c", secret)
    assert not (tmp_path / "c" / BOOK).exists()


def test_a_short_nonce_is_refused() -> None:
    """A nonce that could be searched is refused."""
    with pytest.raises(InvalidInputError, match="nonce must be 32 bytes"):
        commit("mark", KEY, nonce=b"short")
