"""Before the first question and between two: files of a first run, checks, reloads."""
