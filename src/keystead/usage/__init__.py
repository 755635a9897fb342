"""Usage: every verdict counted once, and the questions that are asked of the counts."""
