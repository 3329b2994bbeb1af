"""The law of frames and tokens: fitted to runs, its optimum under a budget, the plan for a film. No torch."""

from .design import suggest
from .fitting import fit
from .law import Law, read_law
from .optimum import Limit, Optimum, Refused, optimum
from .planning import Planned, plan
from .presets import PRESETS, preset
from .realisable import pooled
from .runs import Runs, read_runs

__all__ = [
    "PRESETS",
    "Law",
    "Limit",
    "Optimum",
    "Planned",
    "Refused",
    "Runs",
    "fit",
    "optimum",
    "plan",
    "pooled",
    "preset",
    "read_law",
    "read_runs",
    "suggest",
]
