"""Which cards a job fits, and what to change where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError
from ..train.arguments import batches

if TYPE_CHECKING:
    from ..train.config import TrainConfig

COUNTED_ON = 0.9  # of a card: the rest is CUDA's context, the workspaces of kernels and gaps between tensors (this toolkit's choice)
CLUSTERS = (2, 4, 8, 16, 32, 64)
LORA = {"r": 128, "alpha": 256, "dropout": 0.05}  # LLaVA-1.5's
Needs = Callable[["TrainConfig", int, int], int]  # config, processes, room -> bytes a device, or any number above room


class Way(NamedTuple):
    """A training run that fits: what differs from the config, on how many devices, what it takes of each."""

    changes: Mapping[str, Any]
    processes: int
    bytes: int

    def words(self) -> str:
        return ", ".join(f"{key}={_value(value)}" for key, value in self.changes.items())


def budget(card: float) -> int:
    """Bytes of a card of so many GB (as makers count: GiB) that a job is given."""
    return int(card * (1 << 30) * COUNTED_ON)


def trained_on(card: float, train: TrainConfig, processes: int, needs: Needs) -> dict[str, Any]:
    """Whether a training run fits a card, else how it would: on as many devices, on more, or by low-rank updates."""
    from ...models.memory import shown

    room = budget(card)
    need = needs(train, processes, 1 << 62)
    each = "it" if processes == 1 else f"each of the {processes}"
    fits = need <= room
    told = [f"{card:g} GB card: {'fits' if fits else 'does not fit'}; {each} needs {shown(need)} of the {shown(room)} that are counted on"]
    found = {} if fits else _found(_groups(train, processes), train, room, needs)
    for name, way in found.items():
        where = "" if way.processes == processes else f" on {way.processes} cards"
        told.append(f"  {name}{where}: {way.words() or 'as it is'} ({shown(way.bytes)} each)")
    if not fits and not found:
        told.append(f"  no change of micro_batch, checkpointing, lora or fsdp on up to {CLUSTERS[-1]} cards makes it fit")
    ways = {name: {"change": dict(way.changes), "processes": way.processes, "bytes": way.bytes} for name, way in found.items()}
    return {"gb": card, "fits": fits, "ways": ways, "told": told}


def _groups(train: TrainConfig, processes: int) -> dict[str, list[tuple[dict[str, Any], int]]]:
    """Changes to try, the least first, and on how many devices."""
    check: dict[str, Any] = {} if train.gradient_checkpointing else {"gradient_checkpointing": True}
    low: dict[str, Any] = (
        {} if train.precision == "bf16" or (train.precision == "auto" and train.device == "auto") else {"precision": "bf16"}
    )
    spread = {} if train.fsdp else {"fsdp": True}
    same = [({}, processes), *([(low, processes)] if low else []), (low | check, processes)]
    if processes > 1 and spread:
        same.append((low | check | spread, processes))
    more = [(low | check | spread, count) for count in CLUSTERS if count > processes]
    groups = {"fits with": same, "fits": more}
    alone = {"fsdp": False} if train.fsdp else {}  # it would keep frozen weights in float32
    if train.lora is None and "language_model" in train.train:
        groups["fits by low-rank updates in place of all weights"] = [(low | check | alone | {"lora": LORA}, processes)]
    return groups


def _found(groups: Mapping[str, Any], train: TrainConfig, room: int, needs: Needs) -> dict[str, Way]:
    """The first way of each group; of the first group alone where it has one."""
    found: dict[str, Way] = {}
    for number, (name, ways) in enumerate(groups.items()):
        way = _first(ways, train, room, needs)
        if way is not None:
            found[name] = way
            if number == 0:
                break
    return found


def _first(ways: list[tuple[dict[str, Any], int]], train: TrainConfig, room: int, needs: Needs) -> Way | None:
    """The first way that fits, with the most rows of a forward that do."""
    for changes, processes in ways:

        def need(rows: int, changes: Mapping[str, Any] = changes, processes: int = processes) -> int:
            return needs(train.model_copy(update=_typed({**changes, "micro_batch": rows})), processes, room)

        counts = list(_rows(train, processes))
        if counts and need(counts[-1]) <= room:  # where the fewest rows do not fit, none do
            rows = _most(counts, need, room)
            as_before = rows == batches(train.batch_size, train.micro_batch, 1).micro
            return Way({**changes} if as_before else {**changes, "micro_batch": rows}, processes, need(rows))
    return None


def _most(counts: list[int], need: Callable[[int], int], room: int) -> int:
    """The most rows that fit. Bytes grow about evenly with rows, so that few counts have to be tried."""
    most, fewest = counts[0], counts[-1]
    high, low = need(most), need(fewest)
    likely = [count for count in counts if low + (high - low) * (count - fewest) / max(1, most - fewest) <= room]
    return next(count for count in [*likely, fewest] if need(count) <= room)


def _rows(train: TrainConfig, processes: int) -> Iterator[int]:
    """Rows of a forward: as the config has it, then halves down to 1, as far as they share the batch evenly."""
    try:
        rows = batches(train.batch_size, train.micro_batch, processes).micro
    except UserError:
        return
    yield rows
    while rows > 1:
        rows = next(n for n in range(rows // 2, 0, -1) if rows % n == 0)
        yield rows


def _typed(changes: Mapping[str, Any]) -> dict[str, Any]:
    from ..train.config import LoraConfig

    return {key: LoraConfig.model_validate(value) if key == "lora" else value for key, value in changes.items()}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {inner}" for key, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
