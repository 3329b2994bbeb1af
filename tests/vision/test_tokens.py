"""VisualTokens refuses parts that do not fit, and prints shapes."""

import pytest
import torch

from vision.tokens import VisualTokens


def test_repr_shows_shapes_not_values() -> None:
    tokens = VisualTokens.full(torch.zeros(2, 6, 5), (2, 3))
    assert repr(tokens) == "VisualTokens(features=[2, 6, 5] torch.float32, mask=[2, 6], grid=(2, 3), level=0, prefix=0)"


def test_rows_leave_masked_tokens_out() -> None:
    tokens = VisualTokens(torch.arange(6.0).reshape(1, 3, 2), torch.tensor([[True, False, True]]))
    assert tokens.rows()[0].tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize(
    ("features", "mask", "grid", "message"),
    [
        (torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool), None, r"\[B, N, D\], got shape \(3, 2\)"),
        (torch.zeros(1, 3, 2), torch.ones(1, 4, dtype=torch.bool), None, r"bool \(1, 3\)"),
        (torch.zeros(1, 3, 2), torch.ones(1, 3), None, "torch.float32"),
        (torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), (2, 2), "4 tokens, got 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(features: torch.Tensor, mask: torch.Tensor, grid: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisualTokens(features, mask, grid)
