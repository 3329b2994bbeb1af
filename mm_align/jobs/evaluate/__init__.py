"""`mmalign eval`: `evaluate.py` is the verb, each other file one part of it, from answers to the report."""
