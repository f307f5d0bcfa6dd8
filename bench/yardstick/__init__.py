"""What the benchmark of campaigns measures with: the log as codes, the truth, scores, tables."""
