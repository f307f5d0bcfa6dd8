"""Configuration and keys: unknown names are errors, secrets never show."""

from pathlib import Path

import pytest

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.guard.config import Secrets, load_config
from stillwatch.guard.keys import (
    Issued,
    KeyTable,
    Principal,
    client_address,
    presented_key,
    write_key_table,
)
from stillwatch.record.privacy import KeyedHash

SECRETS = Secrets(hash_key=b"0123456789abcdef-secret")
BASE = 'upstream = "http://127.0.0.1:8000"\nstate = "var"\n'


def test_load(tmp_path: Path) -> None:
    """A file of every kind of value loads, paths relative to it."""
    path = tmp_path / "guard.toml"
    path.write_text(
        BASE
        + """
        keys = "keys.jsonl"
        [ladder]
        mode = "enforce"
        [[ladder.rules]]
        model = "house-skills"
        rungs = [{ action = "throttle", limit_per_day = 60 }, { action = "block", after_s = 9 }]
        [learner]
        reference = "honest"
        [limits]
        read_s = 20
        """
    )
    config = load_config(path, secrets=SECRETS)
    assert (tmp_path / "var/journal", tmp_path / "keys.jsonl") == (
        config.journal_path,
        config.keys,
    )
    assert (tmp_path / "honest", 20.0) == (config.learner.reference, config.limits.read_s)
    assert ["throttle", "block"] == [rung.action for rung in config.ladder.rules[0].rungs]
    assert "secret" not in repr(config).replace("secrets", "")


def test_defaults(tmp_path: Path) -> None:
    """By default the gateway listens on loopback, only observes and trusts no header."""
    path = tmp_path / "guard.toml"
    path.write_text(BASE)
    config = load_config(path, secrets=SECRETS)
    assert ("127.0.0.1", "observe", 0, False) == (
        config.host, config.ladder.mode, config.trusted_hops, config.simulation
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1\n", "unknown key 'prot'; known are .*port"),
        ("[learner]\nevery = 1\n", "unknown key 'every'; known are .*enabled, every_s"),
        ('[[ladder.rules]]\nrungs = [{ acton = "block" }]\n', "unknown key 'acton'"),
        ('port = "x"\n', "port: Expected `int`"),
        ("port = 99999\n", "port must be 0 to 65535, got 99999"),
        ("[learner]\nfdr = 2.0\n", "fdr must be between 0 and 1"),
        ('secrets = "x"\n', "unknown key 'secrets'"),
        ("port = = 1\n", "not TOML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    """A wrong file is refused with its name, the key and the rule."""
    path = tmp_path / "guard.toml"
    path.write_text(BASE + text)
    with pytest.raises(ConfigError, match=f"guard.toml.*{words}"):
        load_config(path, secrets=SECRETS)


def test_missing(tmp_path: Path) -> None:
    """A missing file and a missing field are said to be missing."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml", secrets=SECRETS)
    (tmp_path / "guard.toml").write_text('state = "var"\n')
    with pytest.raises(ConfigError, match="upstream must be given"):
        load_config(tmp_path / "guard.toml", secrets=SECRETS)


def test_secrets_from_env() -> None:
    """Secrets come from the environment, the hash key as hex, and never show in an error."""
    environ = {"STILLWATCH_HASH_KEY": "ab" * 16, "STILLWATCH_ADMIN_TOKEN": ""}
    assert Secrets(hash_key=b"\xab" * 16) == Secrets.from_env(environ)
    with pytest.raises(ConfigError, match="STILLWATCH_HASH_KEY must be set"):
        Secrets.from_env({})
    with pytest.raises(ConfigError, match="must be hex digits, got 9 characters") as caught:
        Secrets.from_env({"STILLWATCH_HASH_KEY": "my-secret"})
    assert "my-secret" not in str(caught.value)
    with pytest.raises(InvalidInputError, match="at least 16 bytes long, got '2 bytes'"):
        Secrets.from_env({"STILLWATCH_HASH_KEY": "abcd"})
    with pytest.raises(InvalidInputError, match="together"):
        Secrets(hash_key=b"h" * 16, mark_secret=b"s" * 16)


def test_key_table(tmp_path: Path) -> None:
    """The table finds accounts, holds no key, and names a broken line."""
    path, hasher = tmp_path / "keys.jsonl", KeyedHash(b"k" * 16)
    assert 2 == write_key_table(path, [Issued("a", "sk-1", "org"), Issued("b", "sk-2")], hasher)
    table = KeyTable.load(path, hasher)
    assert 2 == len(table)
    assert Principal("a", hasher.hash("key", "sk-1"), "org") == table.find("sk-1")
    assert table.find("sk-3") is None
    assert "sk-" not in path.read_text()
    path.write_text(path.read_text() + '{"key": 1}\n')
    with pytest.raises(ConfigError, match=r"keys.jsonl:3: not a row"):
        KeyTable.load(path, hasher)
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyTable.load(tmp_path / "absent", hasher)


def test_any_key() -> None:
    """Without a table every key is its own account, by its hash."""
    found = KeyTable.load(None, KeyedHash(b"k" * 16)).find("sk-1")
    assert found is not None
    assert f"key:{found.key_hash}" == found.account


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({b"authorization": b"Bearer k1"}, "k1"),
        ({b"authorization": b"bearer  k1 "}, "k1"),
        ({b"authorization": b"Basic k1", b"x-api-key": b"k2"}, "k2"),
        ({b"api-key": b"k3"}, "k3"),
        ({b"authorization": b"Bearer "}, None),
        ({}, None),
    ],
)
def test_presented_key(headers: dict[bytes, bytes], expected: str | None) -> None:
    """Keys are read from the usual headers."""
    assert expected == presented_key(headers)


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (b"9.9.9.9", 0, "127.0.0.1"),  # not trusted
        (b"1.1.1.1, 9.9.9.9", 1, "9.9.9.9"),  # the client wrote the first one itself
        (b"1.1.1.1, 9.9.9.9, 10.0.0.1", 2, "9.9.9.9"),
        (b"9.9.9.9", 3, "9.9.9.9"),
        (b"2001:db8::1", 1, "2001:db8::1"),
        (b"", 1, "127.0.0.1"),
        (b"unknown", 1, None),
    ],
)
def test_client_address(forwarded: bytes, hops: int, expected: str | None) -> None:
    """Only entries that proxies of ours wrote are believed."""
    headers = {b"x-forwarded-for": forwarded} if forwarded else {}
    assert expected == client_address("127.0.0.1", headers, trusted_hops=hops)
