"""`mmalign rlaif rounds`: `rounds.py` is the verb, each other file one part of a round."""
