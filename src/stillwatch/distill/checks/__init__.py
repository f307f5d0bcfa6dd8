"""Checks: is this answer right?

Seven kinds, from the same letters to a judge model. Which one fits an item is said by the item
(`Item.check`) or by the run's settings.
"""

from __future__ import annotations

from stillwatch.distill.checks.judgement import Check, Judgement, Row
from stillwatch.distill.checks.kinds import KINDS, check_of

__all__ = ["KINDS", "Check", "Judgement", "Row", "check_of"]
