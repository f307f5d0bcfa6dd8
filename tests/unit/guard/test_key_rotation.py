"""A rotated hash key: clients of the former key table are still known, while it is kept."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.guard.conftest import SECRETS, served

from stillwatch.errors import ConfigError
from stillwatch.guard.config import GuardConfig, Secrets
from stillwatch.guard.keys import Issued, KeyTable, write_key_table
from stillwatch.guard.setup.lifecycle import reload
from stillwatch.record.privacy import KeyedHash, rotate_key_file

NEW = b"n" * 32


async def test_clients_outlive_a_rotation(make_config: Callable[..., GuardConfig]) -> None:
    """With the former key kept, the old table opens, also after a reload; hashes are new ones."""
    rotated = dataclasses.replace(SECRETS, hash_key=NEW, former_hash_keys=(SECRETS.hash_key,))
    async with served(make_config(secrets=rotated)) as gateway:
        assert 200 == (await gateway.ask())[0]
        assert (await reload(gateway.state)).taken
        assert 200 == (await gateway.ask())[0]
        assert 401 == (await gateway.ask(key="key-of-nobody"))[0]
        found = {(e.account, e.org, e.key_hash) for e in await gateway.record()}
    assert {("ann", "org-a", KeyedHash(NEW).hash("key", "key-ann"))} == found


async def test_a_dropped_key_closes_its_table(make_config: Callable[..., GuardConfig]) -> None:
    """Once the former key is gone, so is what its table opened."""
    async with served(make_config(secrets=dataclasses.replace(SECRETS, hash_key=NEW))) as gateway:
        assert 401 == (await gateway.ask())[0]


def test_a_rotated_key_file_is_the_secret(tmp_path: Path) -> None:
    """The lines of a rotated key file, with commas between, are the gateway's variable."""
    path, table = tmp_path / "hash.key", tmp_path / "keys.jsonl"
    former = KeyedHash.from_file(path, create=True)
    write_key_table(table, [Issued("ann", "key-ann")], former)
    rotate_key_file(path)
    text = ",".join(path.read_text().split())
    hasher = Secrets.from_env({"STILLWATCH_HASH_KEY": text}).hasher
    assert KeyedHash.from_file(path).hashes("key", "x") == hasher.hashes("key", "x")
    found = KeyTable.load(table, hasher).find("key-ann")
    assert found is not None
    assert ("ann", hasher.hash("key", "key-ann")) == (found.account, found.key_hash)
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        _ = Secrets.from_env({"STILLWATCH_HASH_KEY": f"{'ab' * 16},abcd"}).hasher
