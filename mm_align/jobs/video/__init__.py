"""`mmalign video plan`, `fit` and `sample`: a file each, and what two of them share."""
