"""The wall inside another gateway: decision and record as a library, without a server."""
