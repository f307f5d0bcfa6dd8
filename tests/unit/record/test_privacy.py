"""Keyed hashing: equal for equal, different for different, silent about both."""

import hashlib
import hmac
import pickle
from pathlib import Path

import pytest

from stillwatch.errors import ConfigError, EnvironmentUnfitError, InvalidInputError
from stillwatch.record.privacy import KeyedHash, rotate_key_file

KEY = bytes(range(32))


def test_hash_is_keyed() -> None:
    """Equal key, kind and value give equal hex; a change of any gives another."""
    hashed = KeyedHash(KEY).hash("key", "sk-1")
    others = [
        KeyedHash(KEY[::-1]).hash("key", "sk-1"),
        KeyedHash(KEY).hash("ip", "sk-1"),
        KeyedHash(KEY).hash("key", "sk-2"),
        KeyedHash.generate().hash("key", "sk-1"),
    ]
    assert KeyedHash(KEY).hash("key", "sk-1") == hashed
    assert (24, True) == (len(hashed), set(hashed) <= set("0123456789abcdef"))
    assert 5 == len({hashed, *others})


def test_known_value() -> None:
    """The hash is HMAC-SHA256 over kind, zero byte and value, so old records stay linkable."""
    assert "61e0b0fcac099aabeb9dd82b" == KeyedHash(KEY).hash("key", "sk-1")
    expected = hmac.new(KEY, b"key\0sk-1", hashlib.sha256).hexdigest()[:24]
    assert expected == KeyedHash(KEY).hash("key", "sk-1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.1.2.3", "10.1.2.200", True),
        ("10.1.2.3", "10.1.3.3", False),
        ("2001:db8:1:2::1", "2001:db8:1:ffff::9", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:10.1.2.3", "10.1.2.9", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("0.0.0.1", "::1", False),
    ],
)
def test_network(one: str, other: str, same: bool) -> None:
    """Addresses share a network hash within a /24 or a /48, in either notation."""
    hashed = KeyedHash(KEY)
    assert same is (hashed.network(one) == hashed.network(other))


def test_address() -> None:
    """One address has one hash, however it is written, and it is not its network's."""
    hashed = KeyedHash(KEY)
    assert hashed.address("2001:db8::1") == hashed.address(" 2001:0DB8:0::0001 ")
    assert hashed.address("::ffff:10.1.2.3") == hashed.address("10.1.2.3")
    assert hashed.address("10.1.2.0") != hashed.network("10.1.2.0")


def test_errors_hide_the_value() -> None:
    """A text that is no address is refused without being shown, its cause included."""
    with pytest.raises(InvalidInputError, match="got 12 characters") as caught:
        KeyedHash(KEY).network("10.1.2.3.4.5")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert KEY.hex() not in repr(KeyedHash(KEY))


def test_from_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key comes from the environment as hex; absent, short or not hex is a clear error."""
    monkeypatch.setenv("MY_KEY", KEY.hex() + "\n")
    assert KeyedHash(KEY).hash("a", "b") == KeyedHash.from_env("MY_KEY").hash("a", "b")
    for bad, got in [("abcd", "2 bytes"), ("secret value", "12 characters")]:
        monkeypatch.setenv("MY_KEY", bad)
        with pytest.raises(ConfigError, match=f"variable MY_KEY: .*, got {got}"):
            KeyedHash.from_env("MY_KEY")
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match="got nothing"):
        KeyedHash.from_env("MY_KEY")


def test_from_file(tmp_path: Path) -> None:
    """A key file is made once, for its owner only, and read from then on."""
    path = tmp_path / "hash.key"
    with pytest.raises(ConfigError, match="got nothing"):
        KeyedHash.from_file(path)
    made = KeyedHash.from_file(path, create=True)
    assert 0o600 == path.stat().st_mode & 0o777
    for again in (KeyedHash.from_file(path), KeyedHash.from_file(path, create=True)):
        assert made.hash("a", "b") == again.hash("a", "b")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        KeyedHash.from_file(path)
    with pytest.raises(EnvironmentUnfitError, match="a part of the path is a file"):
        KeyedHash.from_file(path / "under", create=True)


def test_short_key() -> None:
    """A key that could be searched is refused."""
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        KeyedHash(b"short")


def test_travels_to_a_process() -> None:
    """The hash can be handed to a child process."""
    travelled = pickle.loads(pickle.dumps(KeyedHash(KEY)))  # noqa: S301 - our own bytes
    assert KeyedHash(KEY).hash("a", "b") == travelled.hash("a", "b")


def test_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rotation new hashes are made under the new key, and old ones are recognised."""
    path = tmp_path / "hash.key"
    first = KeyedHash.from_file(path, create=True)
    assert (2, 0o600) == (rotate_key_file(path), path.stat().st_mode & 0o777)
    second = KeyedHash.from_file(path)
    old, new = first.hash("key", "sk-1"), second.hash("key", "sk-1")
    assert old != new
    assert (new, old) == second.hashes("key", "sk-1")
    assert all(second.recognises(known, kind="key", value="sk-1") for known in (old, new))
    assert not second.recognises(old, kind="key", value="sk-2")
    assert not second.recognises(old, kind="ip", value="sk-1")
    assert not second.recognises("ü", kind="key", value="sk-1")
    assert not first.recognises(new, kind="key", value="sk-1")
    ip = "10.1.2.3"
    assert (second.address(ip), first.address(ip)) == second.addresses(ip)
    assert (second.network(ip), first.network(ip)) == second.networks(ip)
    assert (1, 2) == (first.n_keys, second.n_keys)
    monkeypatch.setenv("MY_KEY", path.read_text().strip().replace("\n", ","))
    assert second.hashes("a", "b") == KeyedHash.from_env("MY_KEY").hashes("a", "b")


def test_rotation_forgets_old_keys(tmp_path: Path) -> None:
    """Only as many earlier keys are kept as asked for; none makes old hashes anonymous."""
    path = tmp_path / "hash.key"
    assert 1 == rotate_key_file(path)
    first = KeyedHash.from_file(path).hash("a", "b")
    assert [2, 2, 3] == [rotate_key_file(path, keep=keep) for keep in (1, 1, 2)]
    assert not KeyedHash.from_file(path).recognises(first, kind="a", value="b")
    assert 1 == rotate_key_file(path, keep=0)
    with pytest.raises(InvalidInputError, match="keep must be 0 or more"):
        rotate_key_file(path, keep=-1)


def test_rotation_of_what_is_no_key(tmp_path: Path) -> None:
    """A file that holds no keys is refused and stays, and no earlier key may be short."""
    path = tmp_path / "hash.key"
    for bad in (b"hello", b"\xff\xfe", b"", KEY.hex().encode() + b"\nabcd\n"):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match="hash key must be"):
            rotate_key_file(path)
        assert bad == path.read_bytes()
    with pytest.raises(EnvironmentUnfitError, match="cannot rotate the hash key"):
        rotate_key_file(path / "under")
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        KeyedHash(KEY, previous=[b"short"])
