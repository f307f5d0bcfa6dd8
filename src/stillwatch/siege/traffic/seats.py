"""Where an account sits: keys, networks, software, parameters, payment and sign-up.

Networks are shared by many honest strangers (carriers, clouds) and payment marks hardly ever; the
shares are set so that no such field alone tells a campaign's account from others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from stillwatch.logs.accounts import AccountRow
from stillwatch.siege.traffic.times import DAY_S

AGENTS = (
    "openai-python/1.54.3", "openai-python/1.58.1", "openai-python/2.1.0", "openai-node/4.70.2",
    "openai-node/5.2.0", "curl/8.5.0", "langchain/0.3.9", "litellm/1.51.0", "python-requests/2.32",
    "axios/1.7.7", "okhttp/4.12", "go-openai/1.36", "aiohttp/3.11", "vercel-ai/4.0",
    "semantic-kernel/1.15", "llama-index/0.12", "node-fetch/3.3", "Mozilla/5.0 (web console)",
)  # fmt: skip
_AGENT_WEIGHTS = (18, 14, 9, 11, 6, 4, 9, 6, 6, 4, 2, 3, 2, 4, 1, 3, 1, 12)
_PARAMETERS = (
    "{}", '{"temperature":0.7}', '{"temperature":0.0}', '{"max_tokens":512}',
    '{"max_tokens":1024,"temperature":0.7}', '{"max_tokens":2048,"temperature":0.2}',
    '{"max_tokens":4096}', '{"temperature":1.0,"top_p":0.95}', '{"max_tokens":256,"temperature":0}',
    '{"max_tokens":1024}', '{"temperature":0.3}', '{"max_tokens":2048,"temperature":0.7}',
)  # fmt: skip
_PARAMETER_WEIGHTS = (30, 10, 9, 6, 6, 6, 7, 4, 4, 6, 5, 7)
MODELS = ("atlas-large", "atlas-small", "atlas-code")
_DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "proton.me", "icloud.com", "qq.com", "gmx.net",
            "hotmail.com", "naver.com", "163.com")  # fmt: skip
_DOMAIN_WEIGHTS = (45, 16, 8, 5, 7, 6, 4, 5, 2, 2)
_COUNTRIES = ("US", "IN", "GB", "DE", "BR", "JP", "FR", "CA", "SG", "NL", "PL", "VN", "KR", "ES")
_PLANS = ("free", "payg", "payg", "payg", "team", "edu", "startup", "enterprise")


@dataclass(frozen=True)
class Seat:
    """One account as the provider sees it.

    Attributes:
        account: its id.
        row: what the accounts table knows.
        keys: keyed hashes of its API keys.
        networks: networks that it comes from, the usual one first.
        agents: software, the usual one first.
        parameters: JSON of the sampling parameters, the usual ones first.
        models: models asked for, the usual one first.
        tools: hash of its tool definitions, or None.
        usual: how often the usual of each is used (0..1).
        streamed: share of its answers that are streamed (0..1).
        wordiness: factor on the length of its answers.
        role: for the truth only.
        group: for the truth only: which look-alike group or campaign, "" for neither.
        campaign: for the truth only: number of the campaign, -1 for none.
    """

    account: str
    row: AccountRow
    keys: tuple[str, ...]
    networks: tuple[str, ...]
    agents: tuple[str, ...]
    parameters: tuple[str, ...]
    models: tuple[str, ...]
    tools: str | None
    usual: float
    streamed: float
    wordiness: float
    role: str
    group: str = ""
    campaign: int = -1

    def with_row(self, **facts: object) -> Seat:
        """Change what the accounts table knows.

        Args:
            facts: fields of `AccountRow`.

        Returns:
            The seat.
        """
        known = {name: getattr(self.row, name) for name in AccountRow.__struct_fields__}
        return replace(self, row=AccountRow(**{**known, **facts}))


class Town:
    """The providers, carriers and banks that accounts share.

    Args:
        rng: draws them.
        n_accounts: size of the population (count).
        now: when the live days begin.
    """

    def __init__(self, rng: Random, n_accounts: int, now: float) -> None:
        self._rng, self._now = rng, now
        self._clouds = [self.hashed("net") for _ in range(max(4, n_accounts // 60))]
        self._carriers = [self.hashed("net") for _ in range(max(6, n_accounts // 12))]
        # Popular networks are very popular: weights fall as one over the rank.
        self._cloud_weights = [1.0 / (1 + rank) for rank in range(len(self._clouds))]
        self._carrier_weights = [1.0 / (1 + rank) ** 0.7 for rank in range(len(self._carriers))]

    def hashed(self, kind: str) -> str:
        """Make an id as a keyed hash would look.

        Args:
            kind: prefix.

        Returns:
            The id.
        """
        return f"{kind}_{self._rng.getrandbits(48):012x}"

    def brand(self) -> str:
        """Make up the name of a product.

        Returns:
            Lower-case letters.
        """
        parts = ("ka", "lo", "mi", "ren", "ta", "vo", "zu", "bel", "dor", "fin", "gra", "hex", "jo")
        return "".join(self._rng.choice(parts) for _ in range(3))

    def domain(self) -> str:
        """Make up an organisation's domain.

        Returns:
            The domain.
        """
        return f"{self.brand()}-{self._rng.getrandbits(12):03x}.org"

    def cloud(self) -> str:
        """Draw a data centre's network that many rent in.

        Returns:
            Its hash.
        """
        return self._rng.choices(self._clouds, self._cloud_weights)[0]

    def networks(self) -> tuple[str, ...]:
        """Draw where one account comes from.

        Returns:
            One to four networks.
        """
        rng = self._rng
        n = rng.choices((1, 2, 3, 4), (55, 25, 13, 7))[0]
        kind = rng.random()
        if kind < 0.35:
            return tuple(dict.fromkeys(self.cloud() for _ in range(n)))
        home = self.hashed("net") if kind < 0.75 else self._carrier()
        return (home, *(self._carrier() for _ in range(n - 1)))

    def _carrier(self) -> str:
        return self._rng.choices(self._carriers, self._carrier_weights)[0]

    def seat(self, role: str, *, group: str = "", campaign: int = -1) -> Seat:
        """Draw an account of its own: nothing shared on purpose.

        Args:
            role: for the truth.
            group: for the truth.
            campaign: for the truth.

        Returns:
            The seat.
        """
        rng = self._rng
        account = f"acct_{rng.getrandbits(44):011x}"
        networks = self.networks()
        own_domain = rng.random() < 0.18
        domain = f"{rng.getrandbits(28):07x}.com" if own_domain else _pick(rng, "domain")
        row = AccountRow(
            account=account,
            org=f"org_{rng.getrandbits(40):010x}",
            created_at=self.created(),
            signup_ip_hash=self.hashed("ip"),
            signup_network_hash=networks[0] if rng.random() < 0.7 else self._carrier(),
            email_hash=self.hashed("mail"),
            email_domain=domain,
            phone_country=rng.choice(_COUNTRIES),
            payment_hash=self.hashed("pay") if rng.random() < 0.9 else None,
            billing_country=rng.choice(_COUNTRIES),
            kyc_level=rng.choice((0, 1, 1, 2, 2, 2, 3)),
            plan=rng.choice(_PLANS),
        )
        return Seat(
            account=account,
            row=row,
            keys=tuple(self.hashed("key") for _ in range(rng.choice((1, 1, 1, 2, 3)))),
            networks=networks,
            agents=tuple(_pick(rng, "agent") for _ in range(rng.choice((1, 1, 1, 2, 3)))),
            parameters=tuple(_pick(rng, "parameters") for _ in range(rng.choice((1, 1, 2, 3)))),
            models=tuple(
                rng.choices(MODELS, (60, 25, 15))[0] for _ in range(rng.choice((1, 1, 1, 2)))
            ),
            tools=self.hashed("tools") if rng.random() < 0.08 else None,
            usual=rng.betavariate(6.0, 1.5),
            streamed=rng.choice((0.0, 0.0, 1.0, 1.0, rng.random())),
            wordiness=rng.lognormvariate(0.0, 0.5),
            role=role,
            group=group,
            campaign=campaign,
        )

    def created(self) -> float:
        """Draw when an account was opened: most long ago, some during the live days.

        Returns:
            UTC epoch seconds.
        """
        return self._now - self._rng.expovariate(1.0 / 150.0) * DAY_S


def _pick(rng: Random, bank: str) -> str:
    values, weights = _BANKS[bank]
    return rng.choices(values, weights)[0]


_BANKS: dict[str, tuple[Sequence[str], Sequence[int]]] = {
    "agent": (AGENTS, _AGENT_WEIGHTS),
    "parameters": (_PARAMETERS, _PARAMETER_WEIGHTS),
    "domain": (_DOMAINS, _DOMAIN_WEIGHTS),
}
