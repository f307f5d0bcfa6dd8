"""Stillwatch: what a model's copy costs, who is copying it, and whether a model is a copy."""

__version__ = "0.1.0"
