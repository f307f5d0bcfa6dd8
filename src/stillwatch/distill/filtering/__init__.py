"""Which answers are learnt from, and the shapes that other trainers read."""
