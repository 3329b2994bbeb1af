"""Entity labels of records as class numbers: tables made from the training samples, and the labels of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from .base import IGNORE

if TYPE_CHECKING:
    from data_tools.records import Sample

EXPECTED = '{"name": text, "levels": [text or null, ...]} with levels from coarse to fine'


class Entity(NamedTuple):
    """What one sample's first picture shows. levels: class names from coarse to fine, None where unknown."""

    name: str
    levels: tuple[str | None, ...]


class EntityClasses(NamedTuple):
    """levels: the sorted class names of each level, coarse to fine. names: the sorted names of the entities. A class is its name."""

    levels: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]

    @classmethod
    def survey(cls, samples: Iterable[Sample]) -> EntityClasses:
        """The tables of all samples that carry an entity. ValueError where none does or their numbers of levels differ."""
        levels: list[set[str]] | None = None
        names: set[str] = set()
        for sample in samples:
            if (entity := entity_of(sample)) is None:
                continue
            levels = [set() for _ in entity.levels] if levels is None else levels
            if len(levels) != len(entity.levels):
                raise ValueError(
                    f"sample '{sample.id}' has {len(entity.levels)} entity levels, earlier ones have {len(levels)}; "
                    "write null for an unknown level"
                )
            names.add(entity.name)
            for known, name in zip(levels, entity.levels, strict=True):
                known |= {name} - {None}  # type: ignore[arg-type]
        if levels is None:
            raise ValueError(f"no training sample carries an entity: expected meta['entity'] = {EXPECTED} on some")
        return cls(tuple(tuple(sorted(known)) for known in levels), tuple(sorted(names)))

    def annotate(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Labels of the n samples of a batch, given in the order of their pictures' placeholders.

        entity [n]: the entity's number. entity_levels [n, L]: the class at each level. entity_block [n]: which of the batch's
        placeholder blocks is the sample's first, -1 for a sample without a picture. Unknown here, or not seen in training: -100.
        """
        places = [{name: i for i, name in enumerate(known)} for known in self.levels]
        ids = {name: i for i, name in enumerate(self.names)}
        found = [entity_of(sample) for sample in samples]
        blocks = [sum(part.kind == "image" for message in sample.messages for part in message.parts) for sample in samples]
        first = [sum(blocks[:i]) if count else -1 for i, count in enumerate(blocks)]
        rows = [[_place(table, entity, level) for level, table in enumerate(places)] for entity in found]
        return {
            "entity": torch.tensor([IGNORE if e is None else ids.get(e.name, IGNORE) for e in found], dtype=torch.long),
            "entity_levels": torch.tensor(rows, dtype=torch.long).reshape(len(found), len(places)),
            "entity_block": torch.tensor(first, dtype=torch.long),
        }


def _place(table: dict[str, int], entity: Entity | None, level: int) -> int:
    name = None if entity is None or level >= len(entity.levels) else entity.levels[level]
    return IGNORE if name is None else table.get(name, IGNORE)


def entity_of(sample: Sample) -> Entity | None:
    """The entity in `sample.meta`, None where there is none. ValueError for one of another form."""
    found = sample.meta.get("entity")
    if found is None:
        return None
    name, levels = (found.get("name"), found.get("levels")) if isinstance(found, dict) else (None, None)
    well_formed = isinstance(name, str) and name.strip() and isinstance(levels, list | tuple) and levels
    if not well_formed or not all(level is None or isinstance(level, str) for level in levels or ()):
        raise ValueError(f"sample '{sample.id}' has meta['entity'] = {str(found)[:120]}; expected {EXPECTED}")
    return Entity(str(name), tuple(levels or ()))
