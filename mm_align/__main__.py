"""`python -m mm_align` is `mmalign`."""

from .cli import command

command()
