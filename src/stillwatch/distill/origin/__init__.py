"""Where a run came from: manifest, cards, the record for others."""
