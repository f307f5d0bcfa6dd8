"""What a user would reach for instead of `detect`, re-implemented to run on the same rows."""
