"""Networks, the streaming contract they keep, the signal frontend around them, and their registry."""
