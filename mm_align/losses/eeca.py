"""Entity-Enhanced Cognitive Alignment (arXiv 2411.16824): hierarchical and entity-contrastive losses on the visual tokens.

Stated by the paper's abstract and figure caption: a hierarchical classification loss and an entity-aware contrastive loss
stand beside language modelling, so that visual tokens sit in the language model's embedding space and tell entities
apart. Everything finer is this toolkit's choice, because neither code nor formulas are public: the pooling, the heads,
the form of the contrast, its targets, every weight and default. No figure made with it is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .base import IGNORE, Batch, LossOutput, Objective, ObjectiveSetup
from .entity_classes import EntityClasses
from .gather import gather_rows
from .lm import LmObjective

if TYPE_CHECKING:
    from data_tools.records import Sample

LARGEST_SCALE = 100.0  # of the contrast's logits, as in CLIP
COSINE_SCALE = 16.0  # e^16 is enough to give one class among 10^5 a probability near 1


# -- the parts ---------------------------------------------------------------------------------------------------------


class AttentionPool(nn.Module):
    """Visual tokens [m, N, D] -> one vector a picture [m, D]: p = sum_n a_n LN(z_n), a = softmax_n(q . LN(z_n) / sqrt(D)).

    The query q starts at zero, where p is the mean of the real tokens. The norm keeps both losses from growing or
    shrinking the tokens: only directions count.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(features.float())  # [m, N, D]
        scores = (tokens @ self.query / math.sqrt(len(self.query))).masked_fill(~mask, float("-inf"))  # [m, N]
        return (scores.softmax(-1).unsqueeze(1) @ tokens).squeeze(1)


class CosineHead(nn.Module):
    """[n, D] -> [n, C]: COSINE_SCALE times the cosine with each class's vector; bounded logits for very many classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width) / math.sqrt(width))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return COSINE_SCALE * F.normalize(pooled, dim=-1) @ F.normalize(self.weight, dim=-1).T


def hierarchical_loss(
    logits: Sequence[torch.Tensor], labels: torch.Tensor, *, weights: Sequence[float] | None = None, label_smoothing: float = 0.1
) -> torch.Tensor:
    """L_h = sum_l w_l CE_l, each CE_l the mean over the rows whose label at level l is known; 0 where none is.

    logits: one [n, C_l] a level. labels: [n, L], -100 for unknown. weights: w_l, 1/L by default and not renormalised when
    a level is missing.
    """
    weights = weights or [1 / len(logits)] * len(logits)
    total = labels.new_zeros((), dtype=torch.float)
    for level, (scores, weight) in enumerate(zip(logits, weights, strict=True)):
        known = (labels[:, level] != IGNORE).sum().clamp(min=1)
        summed = F.cross_entropy(scores, labels[:, level], ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing)
        total = total + weight * summed / known
    return total


def hierarchical_accuracy(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """`level_l_accuracy` over the rows known at level l; `hierarchy_accuracy`: the share of rows with any known level that
    are right at every known one. What no row can tell is left out."""
    known = labels != IGNORE  # [n, L]
    right = torch.stack([scores.argmax(-1) for scores in logits], -1) == labels  # [n, L]
    found = {f"level_{level}_accuracy": right[known[:, level], level].float() for level in range(labels.shape[1])}
    found["hierarchy_accuracy"] = (right | ~known).all(-1)[known.any(-1)].float()
    return {name: hits.mean() for name, hits in found.items() if len(hits)}


class Contrast(NamedTuple):
    """loss: scalar. match: share of pictures whose likeliest target in the batch is their own entity's."""

    loss: torch.Tensor
    match: torch.Tensor


def entity_contrast(pictures: torch.Tensor, targets: torch.Tensor, entity: torch.Tensor, scale: torch.Tensor) -> Contrast:
    """Symmetric InfoNCE with every row of the same entity as a positive.

    pictures, targets: [n, d] of unit norm, row j of `targets` belonging to entity[j]. With s_ij = scale * <p_i, t_j> and
    P(i) = {j: entity_j = entity_i}: L = 1/2n sum_i 1/|P(i)| sum_{j in P(i)} [-log softmax_j s_ij - log softmax_j s_ji], the mean
    of logs outside (SupCon's L_out, arXiv 2004.11362 equation 2). All entities different: the ordinary InfoNCE.
    """
    scores = scale * pictures @ targets.T  # [n, n]
    same = entity.unsqueeze(0) == entity.unsqueeze(1)
    wanted = same / same.sum(1, keepdim=True)
    loss = (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)) / 2
    return Contrast(loss, same.gather(1, scores.argmax(1, keepdim=True)).float().mean())


def name_targets(embeddings: torch.Tensor, name_ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """[V, D] rows of the language model's input embedding -> [E, D]: the mean row of each name's tokens."""
    return torch.stack([embeddings[list(ids)].float().mean(0) for ids in name_ids])


def name_ids(text_ids: Callable[[str], list[int]], name: str) -> list[int]:
    """The tokens of a name as it stands inside a sentence: most tokenizers write a word differently behind a space."""
    before, after = text_ids("the"), text_ids(f"the {name}")
    inside = after[: len(before)] == before and len(after) > len(before)
    return after[len(before) :] if inside else text_ids(name)


# -- the objective -----------------------------------------------------------------------------------------------------


class EecaObjective(Objective):
    """L = L_LM + hierarchy_weight L_h + contrast_weight L_c over the labelled pictures; a sample without an entity has L_LM only.

    A unit is a target token, as in `LmObjective`. Labels come from `annotate` and fall on the first picture of a sample; a
    picture that several samples share counts once, with the labels of the first. L_h and L_c are over the labelled pictures
    of all processes together (`gather_rows`), but of one micro-batch: accumulation gives the contrast no further negatives.

    classes: see `EntityClasses`. token_ids: of each of `classes.names`. width: of the language model. A weight of 0 leaves the
    part out, with its heads. level_weights: w_l, 1/L by default. contrast_width: of the contrast's two learned heads; None: no
    heads, pooled tokens are pulled to the names' own place among the word embeddings. cosine_above: levels with more classes get a
    `CosineHead`. targets: [E, any] a vector for each name instead of the mean embedding of its tokens. Targets are taken once, before the
    first step, kept in the checkpoint, never trained, and centred over the entities. ValueError for what does not fit.
    """

    films = False
    targets: torch.Tensor
    targets_taken: torch.Tensor

    def __init__(
        self,
        classes: EntityClasses,
        token_ids: Sequence[Sequence[int]],
        width: int,
        *,
        hierarchy_weight: float = 0.1,
        contrast_weight: float = 0.1,
        level_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.1,
        cosine_above: int = 10_000,
        contrast_width: int | None = 512,
        temperature: float = 0.07,
        targets: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        _check_numbers(hierarchy_weight, contrast_weight, label_smoothing, cosine_above, contrast_width, temperature, level_weights)
        _check(classes, token_ids, level_weights, targets)
        self.classes, self.token_ids, self.lm = classes, [list(ids) for ids in token_ids], LmObjective()
        self.hierarchy_weight, self.contrast_weight = hierarchy_weight, contrast_weight
        self.level_weights, self.label_smoothing = level_weights, label_smoothing
        if hierarchy_weight or contrast_weight:
            self.pool = AttentionPool(width)
        if hierarchy_weight:
            sizes = [len(level) for level in classes.levels]
            self.heads = nn.ModuleList(CosineHead(width, n) if n > cosine_above else nn.Linear(width, n) for n in sizes)
        if contrast_weight:
            self._build_contrast(width, contrast_width, temperature, targets)

    def _build_contrast(self, width: int, contrast_width: int | None, temperature: float, targets: torch.Tensor | None) -> None:
        given = torch.zeros(len(self.classes.names), width) if targets is None else targets.float()
        self.register_buffer("targets", given - given.mean(0))
        self.register_buffer("targets_taken", torch.tensor(targets is not None))
        if contrast_width is None and given.shape[1] != width:
            raise ValueError(f"contrast_width null compares targets of width {given.shape[1]} with tokens of width {width}: give a number")
        self.picture_head, self.target_head = (
            nn.Identity() if contrast_width is None else nn.Linear(size, contrast_width, bias=False) for size in (width, given.shape[1])
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], setup: ObjectiveSetup) -> EecaObjective:
        """Options are the keyword arguments above, but `text_targets`, a safetensors file with one vector [d] a name (a text
        encoder's), stands for `targets`. Reads all training samples once for the classes."""
        rest = dict(options)
        file = rest.pop("text_targets", None)
        classes = EntityClasses.survey(setup.survey())
        targets = None if file is None else read_targets(Path(file), classes.names)
        return cls(classes, [name_ids(setup.text_ids, name) for name in classes.names], setup.width, targets=targets, **rest)

    def annotate(self, samples: Sequence[Sample]) -> Mapping[str, torch.Tensor]:
        """See `EntityClasses.annotate`; the samples come in the order of their placeholder blocks, packed ones one by one."""
        return self.classes.annotate(samples)

    def units(self, batch: Batch) -> torch.Tensor:
        return self.lm.units(batch)

    def forward(self, model: nn.Module, batch: Batch) -> LossOutput:
        own = ("entity", "entity_levels", "entity_block")
        lm, outputs = self.lm.with_outputs(model, {key: value for key, value in batch.items() if key not in own})
        if not self.hierarchy_weight and not self.contrast_weight:
            return lm
        if lacking := [key for key in own if key not in batch]:
            raise ValueError(f"the batch lacks {', '.join(lacking)}: the collator must add what EecaObjective.annotate gives")
        with torch.autocast(lm.loss.device.type, enabled=False):  # logits of scale 100 need float32
            pooled, entity, levels = self._labelled(outputs, batch)
            hierarchy, h_metrics = self._hierarchy(pooled, levels)
            contrast, c_metrics = self._contrast(model, pooled, entity)
        loss = lm.loss + self.hierarchy_weight * hierarchy + self.contrast_weight * contrast
        return LossOutput(loss, {"lm_loss": lm.loss.detach(), **lm.metrics, **h_metrics, **c_metrics})

    def _labelled(self, outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of all processes: the labelled pictures pooled [n, D], their entity [n], their classes [n, L]."""
        samples, pictures = labelled_pictures(batch)
        tokens = getattr(outputs, "visual_tokens", None)
        if tokens is None and len(samples):
            raise ValueError("EECA needs the visual tokens of a model of this toolkit: its output has no `visual_tokens`")
        if tokens is None:  # the pool still takes part: the backward pass of other processes waits for this one's
            none = self.pool.query.new_zeros(0, 1, len(self.pool.query))
            pooled = self.pool(none, none[..., 0].bool())
        else:
            pooled = self.pool(tokens.features[pictures], tokens.mask[pictures])
        return gather_rows(pooled), gather_rows(batch["entity"][samples]), gather_rows(batch["entity_levels"][samples])

    def _hierarchy(self, pooled: torch.Tensor, levels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not self.hierarchy_weight:
            return pooled.new_zeros(()), {}
        logits = [head(pooled) for head in self.heads]
        loss = hierarchical_loss(logits, levels, weights=self.level_weights, label_smoothing=self.label_smoothing)
        measured = {"hierarchy_loss": loss.detach()} if (levels != IGNORE).any() else {}
        return loss, measured | hierarchical_accuracy([scores.detach() for scores in logits], levels)

    def _contrast(self, model: nn.Module, pooled: torch.Tensor, entity: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not self.contrast_weight:
            return pooled.new_zeros(()), {}
        self._take_targets(model)
        rows = entity != IGNORE
        if not rows.any():  # every head gets a gradient of 0: data parallelism waits for all of them
            weights = sum((p.sum() for p in self.target_head.parameters()), self.log_scale)
            used = self.picture_head(pooled[:0]).sum() + weights * 0
            return used, {}
        pictures = F.normalize(self.picture_head(pooled[rows]), dim=-1)
        targets = F.normalize(self.target_head(self.targets[entity[rows]]), dim=-1)
        found = entity_contrast(pictures, targets, entity[rows], self.log_scale.exp().clamp(max=LARGEST_SCALE))
        return found.loss, {"contrast_loss": found.loss.detach(), "entity_match": found.match}

    @torch.no_grad()
    def _take_targets(self, model: nn.Module) -> None:
        if self.targets_taken:
            return
        table = getattr(model, "module", model).get_input_embeddings().weight
        whole = table.full_tensor() if hasattr(table, "full_tensor") else table  # FSDP2 keeps a piece a process
        means = name_targets(whole, self.token_ids)
        self.targets.copy_(means - means.mean(0))
        self.targets_taken.fill_(True)


def labelled_pictures(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples [k] that bring labels and the distinct pictures [k] that these are of: the first sample of each picture."""
    known = (batch["entity"] != IGNORE) | (batch["entity_levels"] != IGNORE).any(-1)
    samples = (known & (batch["entity_block"] >= 0)).nonzero().squeeze(-1)  # [n]
    pictures = batch["entity_block"][samples]
    if "picture_index" in batch:
        pictures = batch["picture_index"][pictures]
    repeated = (pictures.unsqueeze(0) == pictures.unsqueeze(1)).tril(-1).any(-1)
    return samples[~repeated], pictures[~repeated]


def read_targets(file: Path, names: Sequence[str]) -> torch.Tensor:
    """[E, d] from a safetensors file with a vector [d] under each name. ValueError where it cannot be read, for names that it
    lacks, and for vectors of different widths."""
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"cannot read text_targets {file} ({error}); it is a safetensors file with a vector for each entity name"
        ) from error
    if lacking := [name for name in names if name not in found]:
        raise ValueError(f"{file} lacks {len(lacking)} of {len(names)} entity names, {lacking[0]!r} for one; it needs a vector for each")
    shapes = {tuple(found[name].shape) for name in names}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"{file} should hold vectors [d] of one width; it has the shapes {', '.join(map(str, sorted(shapes)))}")
    return torch.stack([found[name].float() for name in names])


def _check_numbers(
    hierarchy_weight: Any,
    contrast_weight: Any,
    label_smoothing: Any,
    cosine_above: Any,
    contrast_width: Any,
    temperature: Any,
    level_weights: Any,
) -> None:
    """ValueError naming the option: a config may say anything."""
    for name, value in {"hierarchy_weight": hierarchy_weight, "contrast_weight": contrast_weight}.items():
        _expect(name, value, "a number from 0 on", _is_number(value) and value >= 0)
    _expect("label_smoothing", label_smoothing, "a number from 0 to 1", _is_number(label_smoothing) and 0 <= label_smoothing <= 1)
    _expect("temperature", temperature, "a number above 0", _is_number(temperature) and temperature > 0)
    _expect("cosine_above", cosine_above, "a whole number from 0 on", type(cosine_above) is int and cosine_above >= 0)
    wide = contrast_width is None or (type(contrast_width) is int and contrast_width > 0)
    _expect("contrast_width", contrast_width, "a whole number above 0, or null for no heads", wide)
    numbers = level_weights is None or (isinstance(level_weights, list | tuple) and all(map(_is_number, level_weights)))
    _expect("level_weights", level_weights, "a list of numbers, one a level", numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _expect(name: str, value: Any, expected: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"{name} should be {expected}, but is {value!r}")


def _check(
    classes: EntityClasses, token_ids: Sequence[Sequence[int]], level_weights: Sequence[float] | None, targets: torch.Tensor | None
) -> None:
    if len(token_ids) != len(classes.names) or not all(token_ids):
        raise ValueError(f"{len(classes.names)} entity names need their token ids, each at least one; got {len(token_ids)}")
    if level_weights is not None and len(level_weights) != len(classes.levels):
        raise ValueError(f"level_weights has {len(level_weights)} numbers for {len(classes.levels)} levels")
    if targets is not None and (targets.ndim != 2 or len(targets) != len(classes.names)):
        raise ValueError(f"targets is [{len(classes.names)}, width], a row a name; got shape {tuple(targets.shape)}")
