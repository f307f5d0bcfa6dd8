"""What `detect` may be told; every default names the experiment or the reason behind it."""

from __future__ import annotations

import msgspec

from stillwatch.errors import reject


class FoldConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How exchanges become profiles; profiles merge only when folded alike.

    Attributes:
        digests_per_account: exchanges of which a digest is kept (a uniform sample when there are
            more), so that memory per account is bounded.
        shingle_width: words in a shingle; five, as near-duplicate search has it.
        shingle_tokens: words read for the skeleton from the beginning of a question, and as many
            of its system prompt.
        shingles_kept: distinct shingles kept of a question, the smallest hashes, and as many of
            its system prompt.
        words_kept: distinct words and word pairs kept of a question, the smallest hashes.
        lines_kept: distinct lines kept of a question, the smallest hashes.
        question_chars: characters read of a question.
        excerpt_chars: characters of a question kept to show as evidence; 0 keeps no text.
        memory_bytes: memory for digests. A log whose digests would not fit is kept more coarsely,
            see `levels`; the coarsest level is kept whatever it needs.
    """

    digests_per_account: int = 256
    shingle_width: int = 5
    shingle_tokens: int = 120
    shingles_kept: int = 64
    words_kept: int = 96
    lines_kept: int = 16
    question_chars: int = 2000
    excerpt_chars: int = 160
    memory_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            lowest = 0 if name == "excerpt_chars" else 1
            if value < lowest:
                reject("FoldConfig", name, f"at least {lowest}", got=value)


class DetectConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How campaigns are found.

    Attributes:
        fold: how exchanges become profiles.
        fdr: share of named campaigns that may be false, controlled by Benjamini-Hochberg.
        member_fdr: share of the accounts that join a named campaign without sharing its wording
            which may be wrong, controlled by target-decoy competition.
        min_accounts: a campaign has at least so many accounts of different organisations.
        min_exchanges: and at least so many exchanges that carry its shared wording.
        common_share: wording used by more than this share of reference accounts is everybody's.
        widest_share: without a reference, wording used by more than this share of accounts is.
        link_cosine: skeletons join one block when their account sets are this alike.
        null_groups: honest groups that calibrate a p-value, at most.
        null_sizes: accounts in each; a block is compared at the largest of these (and of
            `min_accounts`) that it fills.
        most_ratio: a group whose rare words return to their account more often than this is made
            of people, whatever its rank; 1 is chance, honest groups start near 4.
        most_revisited: a group in which more than this share of questions goes round among many
            members does not work through a queue.
        seed: of the draws of null groups and subsets.
    """

    fold: FoldConfig = FoldConfig()
    fdr: float = 0.01
    member_fdr: float = 0.1
    min_accounts: int = 12
    min_exchanges: int = 40
    common_share: float = 0.02
    widest_share: float = 0.5
    link_cosine: float = 0.2
    null_groups: int = 800
    null_sizes: tuple[int, ...] = (16, 32, 48)
    most_ratio: float = 2.5
    most_revisited: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.fdr < 1.0:
            reject("DetectConfig", "fdr", "between 0 and 1", got=self.fdr)
        for name, lowest in (("min_accounts", 3), ("min_exchanges", 8), ("null_groups", 1)):
            if getattr(self, name) < lowest:
                reject("DetectConfig", name, f"at least {lowest}", got=getattr(self, name))
