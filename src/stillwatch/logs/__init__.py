"""Logs of any common format, read into exchanges in bounded memory."""
