"""What is remembered of exchanges: folded, merged, kept, in bounded memory an account."""
