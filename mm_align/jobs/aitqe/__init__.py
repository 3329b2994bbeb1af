"""`mmalign aitqe data`: training data for a quality model; `data.py` is the verb, `stages.py` what it does step by step."""
