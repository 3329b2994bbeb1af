"""`mmalign rlaif calibration`: how far the judge of judged.jsonl can be trusted, where the truth of claims is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...config import JobConfig
from .folder import require, session
from .models import Models

if TYPE_CHECKING:
    from ...rlaif.calibration import Calibration


class CalibrationConfig(JobConfig):
    """Which judgements, against which truth."""

    folder: str = Field(description="folder of the stages' files", json_schema_extra={"positional": True})
    truth: str = Field(description='file of claim truths: {"response_id", "index", "true"} a line')
    bins: int = Field(10, ge=1, description="bins of equal width")


def run(config: CalibrationConfig) -> dict[str, Any]:
    """calibration.json, which is the report, and calibration.html. Raises UserError."""
    root = Path(config.folder)
    require(root, "judged")
    with session(root, Models()):
        return write_calibration(root, Path(config.truth), config.bins).to_dict()


def write_calibration(root: Path, truth: Path, bins: int = 10) -> Calibration:
    """Write both files and print what they say in a line."""
    from data_tools.disk.durable import to_json, write_atomic

    from ...rlaif.calibration import calibrate, read_truths
    from ...rlaif.files import claims
    from .report import write_calibration_page

    found = calibrate(claims(root, "judged"), read_truths(truth), bins)
    write_atomic(root / "calibration.json", to_json(found.to_dict()))
    write_calibration_page(root, found)
    print(
        f"calibration: {found.n} claims with a truth ({found.true} true), agreement {found.agreement:.1%} (balanced {found.balanced:.1%}), "
        f"ECE {found.ece:.3f}: {root / 'calibration.html'}"
    )
    return found
