"""A policy that the tests begin with."""

from pathlib import Path

POLICY = """\
[lists.closed]
path = "closed.txt"
kind = "countries"
max_age_days = 90

[networks]
path = "networks.csv"

[tiers]
frontier = ["house-skills"]
small = ["*"]

[[rules]]
id = "closed-country"
kind = "legal"
owner = "legal@example.org"
reason = "we do not serve organisations seated or owned there"
action = "block"
shadow = false
from = 2026-01-01
review_by = 2099-01-01
message = "This model is not offered to your organisation."
any = [
  { org_country = { in = "@closed" } },
  { owners = { in = "@closed", above = 0.5 } },
]
tests = [
  { facts = { org_country = "XA" }, fires = true },
  { facts = { org_country = "DE", owners = { XA = 0.6 } }, fires = true },
  { facts = { org_country = "DE", owners = { XA = 0.4, DE = 0.6 } }, fires = false },
  { facts = { org_country = "DE" }, fires = true },
]

[[rules]]
id = "partner"
kind = "service"
owner = "sales@example.org"
reason = "under contract"
action = "allow"
shadow = false
from = 2026-01-01
review_by = 2099-01-01
when = { org = "org-partner" }
[[rules.tests]]
facts = { org = "org-partner" }
fires = true
[[rules.tests]]
facts = {}
fires = false

[[rules]]
id = "many-answers"
kind = "abuse"
owner = "abuse@example.org"
reason = "many answers at once are for training"
action = "throttle"
limit_per_day = 24
shadow = false
from = 2026-01-01
review_by = 2099-01-01
[rules.when]
asks = { any = ["many", "logprobs"] }
[[rules.tests]]
facts = { asks = ["many"] }
fires = true
[[rules.tests]]
facts = { asks = [] }
fires = false

[[rules]]
id = "watch-young"
kind = "abuse"
owner = "abuse@example.org"
reason = "to see what it would cost"
action = "block"
shadow = true
from = 2026-01-01
review_by = 2099-01-01
when = { account_age_days = { below = 7 } }
tests = [
  { facts = { account_age_days = 1 }, fires = true },
  { facts = { account_age_days = 7 }, fires = false },
]

[[tests]]
facts = { org_country = "XA", org = "org-partner" }
action = "block"
rule = "closed-country"
"""
ACCOUNTS = """\
account,org,created_at,kyc_level,tags
ann,,2020-01-01T00:00:00Z,4,org_country=DE;owners=DE:1.0;list_hits=none
bob,,2020-01-01T00:00:00Z,1,org_country=XA;owners=XA:1.0
"""


def write_policy(folder: Path, text: str = POLICY, *, date: str = "2026-11-01") -> Path:
    """Write the policy, its lists and the accounts table."""
    (folder / "closed.txt").write_text(f"# date: {date}\nXA # there\nxb\n")
    (folder / "networks.csv").write_text(
        "# date: 2026-11-01\n127.0.0.0/8,DE\n127.1.0.0/16,FR\n2001:db8::/32,XA\n"
    )
    (folder / "accounts.csv").write_text(ACCOUNTS)
    path = folder / "policy.toml"
    path.write_text(text)
    return path
