"""Randomised canaries and the withheld split: proofs by our own draws."""
