"""How papers decode and ask on each benchmark: `mmalign eval --protocol paper`. Scoring is the same either way."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from data_tools.calls import Sampling

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Protocol(NamedTuple):
    """source: where it was read. sampling: how answers are decoded. options: of the benchmark, what is asked above all."""

    source: str
    sampling: Sampling
    options: Mapping[str, Any] = NOTHING


LLAVA = "LLaVA-1.5, scripts/v1_5/eval (haotian-liu/LLaVA)"
RLAIFV = "RLAIF-V, script/eval (RLHF-V/RLAIF-V)"

PAPER: Mapping[str, Protocol] = MappingProxyType(
    {
        "pope": Protocol(LLAVA, Sampling(max_tokens=128)),
        "chair": Protocol(
            "OPERA, chair_eval.py (shikiw/OPERA)",
            Sampling(max_tokens=512, beams=5),
            {"prompt": "Please describe this image in detail."},
        ),
        "object_halbench": Protocol(RLAIFV, Sampling(max_tokens=1024, beams=3)),
        "mmhal": Protocol(RLAIFV, Sampling(max_tokens=1024, beams=3)),
        "amber": Protocol("lmms-eval, tasks/amber_g (AMBER's authors state none)", Sampling(max_tokens=2048)),
        "hallusionbench": Protocol("lmms-eval, tasks/hallusion_bench", Sampling(max_tokens=128)),
        "mme": Protocol("lmms-eval, tasks/mme", Sampling(max_tokens=16)),
    }
)
