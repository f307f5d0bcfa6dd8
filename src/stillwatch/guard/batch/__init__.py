"""Batches: many questions in one file, answered hours later and fetched as another file."""
