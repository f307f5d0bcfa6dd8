"""Find the webs of accounts that work one queue."""
