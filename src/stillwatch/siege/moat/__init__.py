"""The moat report: every number of it is computed from a run's own files, and can be again."""

from stillwatch.siege.moat.assemble import compute_moat

__all__ = ["compute_moat"]
