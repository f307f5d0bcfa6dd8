"""Traffic of whole providers, for measuring `detect`: people, look-alikes and campaigns.

`build_traffic(Scenario(...), data)` gives a log in the store's schema, the honest history before
it, the accounts table, and the truth apart from all of them.
"""

from stillwatch.siege.traffic.scenarios import Scenario, Traffic, Truth, build_traffic

__all__ = ["Scenario", "Traffic", "Truth", "build_traffic"]
