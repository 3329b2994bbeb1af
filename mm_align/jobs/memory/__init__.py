"""`mmalign memory` (`memory.py`): `models` finds sizes, `training` and `answers` add up, `cards` says what fits and what to change."""
