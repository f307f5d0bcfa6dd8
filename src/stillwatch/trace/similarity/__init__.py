"""How alike models are: a rank among references, never a proof."""
