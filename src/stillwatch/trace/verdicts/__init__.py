"""What all the evidence together proves about each suspect."""
