"""`python -m mm_align` is `mmalign`."""

import sys

from .cli import main

sys.exit(main())
