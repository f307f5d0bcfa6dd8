"""Other people's evaluations of our models: lm-evaluation-harness and inspect-ai."""
