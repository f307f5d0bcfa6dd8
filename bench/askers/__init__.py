"""Those who ask in `bench/distill_ask.py`, each in an environment of its own, by a job file."""
