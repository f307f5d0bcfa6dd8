"""Find the webs of accounts that work one queue."""

from stillwatch.detect.campaign import find_campaigns
from stillwatch.detect.config import DetectConfig, FoldConfig
from stillwatch.detect.findings import (
    AccountScore,
    Campaign,
    Candidate,
    Evidence,
    Findings,
    write_findings,
)
from stillwatch.detect.profiles.fold import fold
from stillwatch.detect.profiles.merge import merge
from stillwatch.detect.profiles.profile import Profiles, no_profiles
from stillwatch.detect.search import Vetted, detect, search, vet

__all__ = [
    "AccountScore",
    "Campaign",
    "Candidate",
    "DetectConfig",
    "Evidence",
    "Findings",
    "FoldConfig",
    "Profiles",
    "Vetted",
    "detect",
    "find_campaigns",
    "fold",
    "merge",
    "no_profiles",
    "search",
    "vet",
    "write_findings",
]
