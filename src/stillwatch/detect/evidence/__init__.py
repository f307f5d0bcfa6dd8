"""What is said of a finding: evidence, doubts, worth, and what was not tested."""
