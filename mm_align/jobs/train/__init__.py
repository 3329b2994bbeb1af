"""`mmalign train`: `train.py` is the verb, each other file one part of a run, from its config to its results."""
