"""What is held against whom, and what is done about it: decisions from memory, no I/O."""
