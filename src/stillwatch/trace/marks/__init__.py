"""Watermark schemes behind one protocol: the key a provider already has, scored exactly."""
