"""The forms of the law, from the simplest on: what the table says is what `mmalign video fit --form` takes."""

from .additive import Additive
from .base import Axis, Form
from .interaction import Interaction
from .iso_parabola import IsoParabola
from .log_quadratic import LogQuadratic

FORMS: dict[str, Form] = {
    "iso_parabola": IsoParabola(),
    "additive": Additive(),
    "log_quadratic": LogQuadratic(),
    "interaction": Interaction(),
}

__all__ = ["FORMS", "Axis", "Form"]
