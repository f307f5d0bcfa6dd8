"""Where folding runs: on this machine, or on Spark."""
