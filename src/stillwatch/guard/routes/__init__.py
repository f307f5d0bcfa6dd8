"""What clients speak: the wires, each request from its bytes to its reply, and whose what is."""
