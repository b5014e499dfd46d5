"""Gives account of verdicts: one run in full, what would come of it and when, and recorded decisions made again."""
