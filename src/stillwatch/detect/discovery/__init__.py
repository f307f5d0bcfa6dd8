"""Which groups of accounts may be campaigns: rare things that they share."""
