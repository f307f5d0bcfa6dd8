"""Blocks: families of the same accounts are one group, without those who hang on by a phrase."""

import numpy as np
from detect_digests import Question, profiles_of

from stillwatch.detect.config import DetectConfig
from stillwatch.detect.confirmation.principals import parties_of
from stillwatch.detect.discovery.blocks import Block, drop_hangers_on, find_blocks
from stillwatch.detect.discovery.traits import Families
from stillwatch.detect.profiles.profile import Ints
from stillwatch.text.ragged import Ragged


def _families(of_digest: Ints) -> Families:
    n = int(of_digest.max(initial=-1)) + 1
    shingles = Ragged(np.arange(n, dtype=np.uint32), np.arange(n + 1))
    return Families(of_digest, shingles, np.zeros(n, dtype=np.int64))


def _block(account: Ints, family: Ints) -> Block:
    rows = np.flatnonzero(family >= 0)
    accounts = np.unique(account[rows])
    return Block(np.unique(family[rows]), accounts, rows, len(accounts))


def _kept(account: Ints, family: Ints) -> set[int]:
    """Accounts left when those who hang on leave, and that their questions leave with them."""
    block = drop_hangers_on(_block(account, family), _families(family), account)
    assert set(block.accounts.tolist()) == set(account[block.rows].tolist())
    return set(block.accounts.tolist())


def _web(n_families: int = 6, n_accounts: int = 20) -> tuple[Ints, Ints]:
    """Twelve questions an account, the family of each drawn at random."""
    account = np.repeat(np.arange(n_accounts), 12)
    return account, np.random.default_rng(0).integers(0, n_families, len(account))


def test_accounts_of_one_phrase_leave_a_mixed_web() -> None:
    """Who uses one of six templates only, or one question in all, is no worker of the queue."""
    account, family = _web()
    account = np.concatenate([account, np.repeat([20, 21], 5), [22]])
    family = np.concatenate([family, np.repeat([0, 3], 5), [1]])
    assert set(range(20)) == _kept(account, family)


def test_a_young_worker_stays() -> None:
    """A worker who has asked a few questions so far has reached as many families as it could."""
    account, family = _web()
    account = np.concatenate([account, np.repeat([20, 21], 3)])
    family = np.concatenate([family, [0, 1, 2], [3, 4, 4]])
    assert set(range(22)) == _kept(account, family)


def test_a_queue_shared_out_by_template_stays_whole() -> None:
    """Where everybody keeps to one template, keeping to one says nothing."""
    account = np.repeat(np.arange(30), 12)
    assert set(range(30)) == _kept(account, account % 6)


def test_two_families_are_too_few_to_tell() -> None:
    """With two templates nobody leaves."""
    account, family = _web(n_families=2)
    account, family = np.append(account, [20] * 5), np.append(family, [0] * 5)
    assert set(range(21)) == _kept(account, family)


def _find(account: Ints, family: Ints, orgs: Ints | None = None) -> list[Block]:
    orgs = np.zeros(len(account), np.int64) if orgs is None else orgs
    profiles = profiles_of([
        Question(int(a), [int(f)], org=int(o))
        for a, f, o in zip(account, family, orgs, strict=True)
    ])
    parties = parties_of(profiles)
    return find_blocks(profiles, _families(family), parties, config=DetectConfig())


def test_families_of_the_same_accounts_are_one_block() -> None:
    """Six templates of one web are one group; another crowd's template is another."""
    account, family = _web()
    crowd = np.repeat(np.arange(20, 45), 4)
    account = np.concatenate([account, crowd])
    family = np.concatenate([family, np.full(len(crowd), 6)])
    blocks = _find(account, family)
    assert [set(range(20)), set(range(20, 45))] == [set(b.accounts.tolist()) for b in blocks]
    assert [20, 25] == [b.n_principals for b in blocks]
    assert list(range(6)) == blocks[0].families.tolist()


def test_one_common_account_fuses_nothing() -> None:
    """A member of both crowds does not make them one."""
    account = np.concatenate([np.repeat(np.arange(0, 21), 4), np.repeat(np.arange(20, 40), 4)])
    order = np.argsort(account, kind="stable")
    family = np.repeat([0, 1], [84, 80])[order]
    assert [21, 20] == [len(b.accounts) for b in _find(account[order], family)]


def test_small_groups_and_few_parties_are_no_candidates() -> None:
    """Eleven accounts are too few, and so are twenty of one organisation."""
    account, family = _web(n_accounts=11)
    assert [] == _find(account, family)
    account, family = _web()
    assert [] == _find(account, family, orgs=1 + account % 11)
    assert 1 == len(_find(account, family, orgs=1 + account % 12))
