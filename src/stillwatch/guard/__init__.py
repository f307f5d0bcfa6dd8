"""The gateway in front of a model: record, decide, act."""
