"""The spine: exchanges, their journal, their store and their privacy."""
