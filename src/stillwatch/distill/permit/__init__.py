"""May this teacher be distilled: the claim, its terms, its end."""
