"""Named settings of the preference objective: what the methods of the literature set, over the objective's own defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "dpo": {"loss": "sigmoid", "beta": 0.1},
    "rlaifv": {"loss": "sigmoid", "beta": 0.1, "average": False, "sft_average": False},
    "ddpo": {"loss": "sigmoid", "beta": 0.5, "average": True, "token_weight": 5.0},
    "mdpo": {"loss": "sigmoid", "beta": 0.1, "contrast_weight": 1.0, "anchor_weight": 1.0},
    "mm_dpo": {"loss": "sigmoid", "beta": 0.1, "beta_growth": 0.5, "beta_rate": 0.5},
    "mpo": {
        "loss": [{"type": "sigmoid", "weight": 0.8}, {"type": "bco_pair", "weight": 0.2}],
        "beta": 0.1,
        "running_shift": True,
        "sft_weight": 1.0,
    },
    "flex_dpo": {"loss": {"type": "flex", "rejected_scale": 0.8}, "beta": 0.1},
    "dpo_sft": {"loss": "sigmoid", "beta": 0.1, "sft_weight": 0.1},
    "ipo": {"loss": "ipo", "beta": 0.1},
    "simpo": {"loss": {"type": "simpo", "gamma": 1.0}, "beta": 2.0},
    "orpo": {"loss": "orpo", "beta": 0.1, "sft_weight": 1.0},
    "kto": {"loss": "kto_pair", "beta": 0.1},
}
