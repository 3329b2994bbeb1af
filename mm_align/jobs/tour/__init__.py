"""`mmalign tour`: `tour.py` is the verb, each other file one part of it, from the YAML file to the page."""
