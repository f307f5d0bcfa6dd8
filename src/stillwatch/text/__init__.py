"""Prompt skeletons, n-gram hashing and mergeable sketches."""
