"""`mmalign enhance-data` (`enhance.py`) and `mmalign merge` (`merge.py`); each other file is one part of such a run."""
