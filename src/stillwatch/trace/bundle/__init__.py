"""The evidence bundle: made, sealed, checked and computed again by anybody, offline."""
