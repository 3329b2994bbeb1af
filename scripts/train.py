"""`mmalign train` in several processes: `torchrun --nproc-per-node 8 scripts/train.py CONFIG --out run/ --set lr=1e-4`.

The words behind the script are those of `mmalign train`; `accelerate launch scripts/train.py ...` starts it as well. The first
process speaks and writes; the others say only what is wrong. Without a launcher it is `mmalign train`.
"""

from __future__ import annotations

import os
import sys

from mm_align.cli import main

if __name__ == "__main__":
    quiet = ["--quiet"] if int(os.environ.get("RANK", 0)) > 0 else []
    sys.exit(main(["train", *sys.argv[1:], *quiet]))
