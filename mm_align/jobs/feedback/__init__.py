"""`mmalign rlaif feedback` (`feedback.py`) and its stages, a verb each; `steps.py` is what they share."""
