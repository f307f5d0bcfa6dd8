"""The second process: folds what was recorded, finds campaigns, writes verdicts."""
