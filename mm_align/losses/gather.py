"""Rows of all processes in one tensor, with gradients: what a loss over the whole batch needs under data parallelism."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """[n, ...] of each process -> [sum of n, ...] in rank order, the same on every process; n may differ and be 0.

    The gradient of each row is summed over the processes' losses. When every process takes the loss of all gathered rows
    and gradients are averaged over processes (DDP, FSDP), the result is that of one process with the whole batch, also
    when process r weights its loss by w_r with a mean of 1. `rows` must require grad on every process or on none:
    the backward pass communicates. A single process gets its own rows back.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    counts = _counts(rows)
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    gathered: list[torch.Tensor] = list(_Gather.apply(padded).unbind())
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def _counts(rows: torch.Tensor) -> list[int]:
    mine = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """[n, ...] -> [processes, n, ...]; backward: the sum over processes of the gradients of this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank()]
