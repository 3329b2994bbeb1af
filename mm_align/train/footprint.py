"""What a training step needs on one device: an estimate from sizes, made without weights and without data.

**What stays over the steps** (P parameters, of them T that train, N processes; widths as `mmalign train` keeps them):

    weights    frozen 2 bytes each where the run computes in bfloat16 (4 in float32), trained 4: they are the master copies. FSDP keeps
               all in float32 and 1 / N of them on a device.
    gradients  4 T (FSDP: 4 T / N); and as much again in the buckets by which N processes without FSDP exchange them.
    optimiser  8 T for the two moments of AdamW (FSDP: 8 T / N), 0 for plain SGD.

**Activations** are counted, not put into a formula: forward, loss and backward run once on tensors that have sizes and no memory
(torch's FakeTensorMode, automatic mixed precision as in the run), and the most bytes that live at once are kept. So frozen parts,
low-rank updates, checkpointing, any adapter and any language model cost what the code that trains them keeps. Of many equal decoder
layers two and four are counted and the rest drawn out (`deeper`). The count is that of
Korthikanti et al. 2022 (arXiv 2205.05198): what each operator keeps for its backward pass. Their transformer layer of s tokens, b rows,
width h and a heads keeps s b h (34 + 5 a s / h) bytes in 16 bits, and counting gives that number for it (tests); with fused attention the
a s^2 b term goes. A Llama layer in float32 (intermediate width f, q = a x head size) keeps 4 s b (6 h + 4 q + 4 f) bytes beside a
few numbers a token. Checkpointing keeps 4 s b h a layer (2 s b h in bfloat16) and one layer whole while it is made again.

**Assumptions.** Every row is as long as it may be and shows its pictures, and a loss falls on every token that is none of a picture's.
Fused attention. The kernels of a GPU may keep another number or two a token, the allocator cannot use every gap, and CUDA's own
context comes on top: leave a tenth of the card free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..losses.answer_logps import token_logps
from ..models.live_bytes import LiveBytes
from ..models.memory import Part
from .reference_scores import product_weights
from .trainer import fsdp_config


class Step(NamedTuple):
    """What a step is made of, on one device: rows of `tokens` tokens with `pictures` pictures each, `targets` tokens of each row
    under a loss. layers: of the optimiser; foreach: whether it steps all parameters at once, as it does on a GPU."""

    rows: int
    tokens: int
    targets: int
    pictures: int = 1
    pairs: bool = False
    bf16: bool = False
    checkpointing: bool = False
    accumulation: int = 1
    processes: int = 1
    fsdp: bool = False
    optimizer: str = "adamw_torch"
    foreach: bool = True


class Sizes(NamedTuple):
    """Numbers of parameters that train and that do not, of the largest tensor that trains, of what FSDP holds whole (see `gathered`), of
    weights of matrix products (see `scoring`)."""

    trained: int
    frozen: int
    largest: int
    gathered: int
    products: int = 0


def sizes_of(model: nn.Module) -> Sizes:
    """Of a model whose parts are frozen as in the run; shared parameters count once."""
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    kinds = set(fsdp_config(model)["transformer_layer_cls_to_wrap"])
    units = [module for module in model.modules() if type(module).__name__ in kinds]
    inside = {id(p) for unit in units for p in unit.parameters()}
    alone = sum(p.numel() * (2 if p.requires_grad else 1) for p in model.parameters() if id(p) not in inside)
    within = max((sum(p.numel() * (3 if p.requires_grad else 2) for p in unit.parameters()) for unit in units), default=0)
    everything = sum(p.numel() for p in model.parameters())
    products = sum(p.numel() for p in product_weights(model))
    return Sizes(sum(trained), everything - sum(trained), max(trained, default=0), alone + within, products)


class States(NamedTuple):
    """Bytes on one device that stay over the steps, and the numbers of parameters that train and that do not."""

    trained: int
    frozen: int
    trained_bytes: int
    frozen_bytes: int
    gradients: int
    moments: int
    buckets: int


def states(sizes: Sizes, step: Step) -> States:
    """See the module's docstring."""
    trained, frozen = sizes.trained, sizes.frozen
    share = step.processes if step.fsdp else 1
    width = 2 if step.bf16 and not step.fsdp else 4
    moments = 8 if "adam" in step.optimizer else 0
    buckets = 4 * trained if step.processes > 1 and not step.fsdp else 0
    return States(trained, frozen, 4 * trained // share, width * frozen // share, 4 * trained // share, moments * trained // share, buckets)


class Peak(NamedTuple):
    """The most bytes alive at once in forward and backward, and how many of them were gradients already; the most of the time until
    pictures were read."""

    bytes: int
    gradients: int
    pictures: int = 0


def peak_of(model: nn.Module, step: Step, keep: bool | None = None) -> Peak:
    """One forward and backward of a model on the meta device, which becomes one of fake tensors. keep: whether gradients stay (default:
    unless FSDP shares them out)."""
    keep = not step.fsdp if keep is None else keep
    live = LiveBytes()
    with FakeTensorMode():
        give_sizes(model, lambda p: torch.bfloat16 if step.bf16 and (step.fsdp or not p.requires_grad) else torch.float32)
        model.train()
        if step.checkpointing:  # the library's newer name first
            enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        with live, live.watching(model, keep=keep):
            with torch.autocast("cpu", torch.bfloat16, enabled=step.bf16):
                embeds = _embeds(model, step)  # [B, L, D]
                pictures = live.start_anew()
                loss = _loss(model, step, embeds)
            loss.backward()
    waiting = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad) if keep and step.accumulation > 1 else 0
    gradients = max(live.gradients_at_peak, waiting)
    most = live.peak - live.gradients_at_peak + gradients
    return Peak(max(most, pictures + waiting), gradients if most >= pictures + waiting else waiting, pictures)


def deeper(few: Peak, more: Peak, layers: tuple[int, int, int], gradients: int) -> Peak:
    """The peak of a model of layers[2] decoder layers by those of layers[0] and layers[1] that kept no gradients: each further layer adds
    the same. `gradients` of all layers are counted as there at that moment, which is the most that it can be."""
    each = (more.bytes - few.bytes) / (layers[1] - layers[0])
    return Peak(max(few.pictures, round(more.bytes + each * (layers[2] - layers[1]))) + gradients, gradients, few.pictures)


def give_sizes(model: nn.Module, dtype: Callable[[nn.Parameter], torch.dtype]) -> None:
    """Puts fake tensors in place of all parameters and buffers; shared ones stay shared. FSDP gathers in what the run computes in, and
    frozen weights without it are kept in that, so `dtype` decides."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(torch.empty(parameter.shape, dtype=dtype(parameter)), parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _embeds(model: Any, step: Step) -> torch.Tensor:
    """Words, and the pictures' visual tokens in their places. The model looks at values to find these; here their number is enough."""
    side, rows, tokens = model.config.image_size, step.rows, step.tokens
    embeds: torch.Tensor = model.get_input_embeddings()(torch.empty(rows, tokens, dtype=torch.long))  # [B, L, D]
    if step.pictures:
        seen = model.visual_tokens(torch.empty(rows * step.pictures, 3, side, side)).features
        embeds = embeds.masked_scatter(torch.empty(rows, tokens, 1, dtype=torch.bool), seen.to(embeds.dtype))
    return embeds


def _loss(model: Any, step: Step, embeds: torch.Tensor) -> torch.Tensor:
    """As the objectives compute it, of tokens whose values do not matter."""
    rows, tokens = step.rows, step.tokens
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=_mask(step, embeds), position_ids=torch.empty(rows, tokens, dtype=torch.long), use_cache=False
    ).last_hidden_state
    count = rows * step.targets
    scored = hidden.flatten(0, 1)[torch.empty(count, dtype=torch.long)]  # [K, D]
    targets = torch.empty(count, dtype=torch.long)
    if step.pairs:
        return -token_logps(model.logits, scored, targets, model.config.text_config.vocab_size).mean()
    logits = model.logits(scored).float()
    return F.cross_entropy(logits, targets, reduction="none").mean()


def _mask(step: Step, embeds: torch.Tensor) -> torch.Tensor | None:
    """Pairs have one mask of numbers for all layers; rows of several lengths a boolean one; a single row none."""
    shape = (step.rows, 1, step.tokens, step.tokens)
    if step.pairs:
        return torch.empty(shape, dtype=torch.bfloat16 if step.bf16 else embeds.dtype)
    return torch.empty(shape, dtype=torch.bool) if step.rows > 1 else None


def gathered(sizes: Sizes, step: Step) -> int:
    """Bytes that FSDP holds whole at the busiest moment: what belongs to no unit and its gradients, two units, the gradients of one."""
    return (2 if step.bf16 else 4) * sizes.gathered if step.fsdp else 0


def parts_of(sizes: Sizes, step: Step, peak: Peak) -> list[Part]:
    """The busiest moment, part by part: forward and backward (`peak`), or the optimiser's step where that takes more, or, for pairs
    under FSDP, the time before the first step, when every process holds a whole copy that scores the reference."""
    held = states(sizes, step)
    stepping = 4 * (sizes.trained // (step.processes if step.fsdp else 1) if step.foreach else sizes.largest) if held.moments else 0
    in_backward = peak.bytes + (held.gradients if step.fsdp else 0) + gathered(sizes, step)
    if held.gradients + stepping > in_backward:
        moment = [Part("gradients", held.gradients, f"{held.trained:,} x 4 bytes{_share(step)}")]
        moment += [Part("temporaries", stepping, "the optimiser's own step, when activations are gone")]
    else:
        moment = _in_backward(held, step, peak, gathered(sizes, step))
    found = [*_staying(held, step), *moment]
    before = scoring(sizes, step)
    if before > sum(part.bytes for part in found):
        return [Part("weights, whole", before, "before the first step, while the reference is scored: FSDP spreads them only then")]
    return found


def scoring(sizes: Sizes, step: Step) -> int:
    """Bytes of the copy that scores the reference of pairs under FSDP (`reference_scores.beside`)."""
    if not (step.pairs and step.fsdp):
        return 0
    return 4 * (sizes.trained + sizes.frozen) - (2 * sizes.products if step.bf16 else 0)


def _staying(held: States, step: Step) -> list[Part]:
    frozen_width = 2 if step.bf16 and not step.fsdp else 4
    found = [
        Part("weights, frozen", held.frozen_bytes, f"{held.frozen:,} x {frozen_width} bytes{_share(step)}"),
        Part("weights, trained", held.trained_bytes, f"{held.trained:,} x 4 bytes{_share(step)}: they are the master copies"),
        Part("optimiser", held.moments, f"{held.trained:,} x 8 bytes{_share(step)}: two moments in float32"),
        Part("buckets", held.buckets, f"{held.trained:,} x 4 bytes: gradients on their way between processes"),
    ]
    return [part for part in found if part.bytes]


def _in_backward(held: States, step: Step, peak: Peak, whole: int) -> list[Part]:
    gradients = held.gradients if step.fsdp else peak.gradients
    when = "" if gradients >= held.gradients else " that are there at the busiest moment"
    found = [
        Part("gradients", gradients, f"{gradients // 4:,} x 4 bytes{when}" if when else f"{held.trained:,} x 4 bytes{_share(step)}"),
        Part("gathered layers", whole, "whole for a moment: what is no layer, and two layers with the gradients of one"),
        Part("activations", peak.bytes - peak.gradients, _counted(step)),
    ]
    return [part for part in found if part.bytes]


def _share(step: Step) -> str:
    return f" / {step.processes} processes" if step.fsdp and step.processes > 1 else ""


def _counted(step: Step) -> str:
    what = f"{step.rows} row{'s' if step.rows > 1 else ''} of {step.tokens:,} tokens"
    ways = [word for word, on in (("bfloat16", step.bf16), ("checkpointing", step.checkpointing)) if on]
    return f"counted: {what}, a loss on {step.targets:,} of each{''.join(f', {word}' for word in ways)}"
