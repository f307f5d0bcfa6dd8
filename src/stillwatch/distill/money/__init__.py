"""What a run may spend, what tokens cost, and what asking will come to."""
