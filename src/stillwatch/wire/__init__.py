"""Bytes to exchanges and back, for each API's wire format; no I/O."""
