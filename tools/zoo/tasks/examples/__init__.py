"""The makers of examples: one file for each task, and what they share."""
