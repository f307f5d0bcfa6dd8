"""Training against a discriminator (GAD), a student from sampled answers only."""
