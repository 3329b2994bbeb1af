"""The model that configs/aitqe/tiny.yaml starts from: tiny-lvlm, which sees and describes, with tiny-aitqe's tokenizer.

python scripts/zoo/quality_start.py --out start

In that tokenizer a piece of the answer's JSON is one token, so an answer has about 60 tokens and not 360. Tokens that tiny-lvlm does not
know start from random weights. It has not learned to judge captions; its own weights, though, once began as those of tiny-aitqe.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from zoo.architecture import model_from

from mm_align.models import LvlmProcessor

ZOO = Path(__file__).resolve().parents[2] / "mm_align/zoo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    options = parser.parse_args()
    processor = LvlmProcessor.from_pretrained(ZOO / "tiny-aitqe")
    model_from(ZOO / "tiny-lvlm", processor.tokenizer).save_pretrained(options.out)
    processor.save_pretrained(options.out)


if __name__ == "__main__":
    main()
