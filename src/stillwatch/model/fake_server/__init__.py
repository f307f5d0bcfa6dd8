"""The parts of the fake endpoint; `stillwatch.model.fake_endpoint` is its public face."""
