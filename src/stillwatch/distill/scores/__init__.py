"""Teacher, student and untouched student on the same held-out items."""
