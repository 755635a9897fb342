"""Loops with a clock of their own: they poll, sequence, save and tidy in bounded batches."""
