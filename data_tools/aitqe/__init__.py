"""AITQE: judge captions against their pictures and rewrite only those judged poor."""

from .audit import audit_arrow_type, audit_fields
from .guards import Guards
from .parser import ASPECTS, SCORE_KEYS, Reply, parse, render
from .policy import Policy, quota
from .prompt import AITQE_PROMPT, GENERAL_PROMPT, Prompt
from .similarity_guard import SimilarityGuard
from .step import AitqeStep

__all__ = [
    "AITQE_PROMPT", "ASPECTS", "GENERAL_PROMPT", "SCORE_KEYS", "AitqeStep", "Guards", "Policy", "Prompt", "Reply",
    "SimilarityGuard", "audit_arrow_type", "audit_fields", "parse", "quota", "render",
]  # fmt: skip
