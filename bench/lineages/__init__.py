"""Public collections of answers whose lineages are known, and how well a method tells them."""
