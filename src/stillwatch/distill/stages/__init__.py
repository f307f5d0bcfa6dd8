"""The stages of a run, as `stillwatch.distill.run` calls them."""
