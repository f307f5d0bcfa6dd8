"""Students: from nothing or from a model folder, by texts or log-probabilities."""
