"""One Model protocol: over HTTP, local, replayed or fake."""
