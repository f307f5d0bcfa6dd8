"""Asking a teacher: live or by batch, recorded, paced, within the budget."""
