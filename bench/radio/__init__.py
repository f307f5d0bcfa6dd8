"""The parts of `bench/trace_radioactivity.py`: students, rewriting, scoring, tables."""
