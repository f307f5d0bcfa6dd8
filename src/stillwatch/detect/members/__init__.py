"""Who belongs to a named campaign, and every exchange that it took."""
