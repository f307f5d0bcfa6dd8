"""One reader per log format: it recognises records of its format and turns them into exchanges."""
