"""Training data for a quality model, made by any judge: scores, captions of contrasting quality, the four kinds of rows."""

from .answers import Refused, new_caption, scored, too_like
from .prompts import BETTER, SCORING, STYLES, WORSE, Question, better_question, scoring_question, worse_question
from .rows import KINDS, Judged, Row, rows_of, training_sample

__all__ = [
    "BETTER", "KINDS", "SCORING", "STYLES", "WORSE", "Judged", "Question", "Refused", "Row", "better_question", "new_caption", "rows_of",
    "scored", "scoring_question", "too_like", "training_sample", "worse_question",
]  # fmt: skip
