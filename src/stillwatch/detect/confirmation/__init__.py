"""Which groups are campaigns: statistics on evidence that did not find them, and their null."""
