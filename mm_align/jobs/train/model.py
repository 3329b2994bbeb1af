"""The model that `mmalign train` trains, and its processor: loaded, or assembled of parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError

if TYPE_CHECKING:
    from ...models import LvlmForConditionalGeneration, LvlmProcessor
    from .config import ModelConfig

CONSTANTS = ("image_mean", "image_std")
OURS, LLAVA = "mm_align_lvlm", ("llava", "llava_llama")


def build(config: ModelConfig, seed: int) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    """Model and processor in float32; new weights follow `seed`. UserError where they cannot be had or do not fit."""
    from transformers import set_seed

    from ...models.bars import hide_bars_without_terminal

    hide_bars_without_terminal()
    set_seed(seed)
    return _assembled(config) if config.from_ is None else _changed(config, config.from_)


# -- of parts ----------------------------------------------------------------------------------------------------------


def _assembled(config: ModelConfig) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ...models import assembly

    vision, text = _with_place(config.vision or {}), _with_place(config.text or {})
    name = config.tokenizer or text.get("from")
    if name is None:
        raise UserError("a language model with random weights needs `model.tokenizer`: a folder, a hub id or a bundled model's name")
    tokenizer = assembly.load_tokenizer(place_of(name))
    if "from" not in text:
        text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id} | text
    options = changes_of(config)
    more = {key: _with_place(tower) for key, tower in options.pop("more_towers", {}).items()}
    model = assembly.assemble(vision, text, more_towers=more, **options)
    processor = assembly.make_processor(
        model,
        tokenizer,
        image_token=config.image_token or "<image>",
        prompt_style=config.prompt_style,
        template=config.chat_template,
        **_constants(model.config.vision_config, vision) | _given_pictures(config),
    )
    _write_constants(model, processor, _constants_of_more(model, more))
    return model, processor


def _constants(tower: Any, described: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation of the pixels that a tower's weights were trained with, where its config or checkpoint says."""
    from ...models import assembly

    stated = {key: value for key in CONSTANTS if (value := getattr(tower, key, None)) is not None}  # timm's, open_clip's
    return stated or (assembly.picture_constants(described["from"]) if "from" in described else {})


def _given_pictures(config: ModelConfig) -> dict[str, Any]:
    given = {"image_mean": config.image_mean, "image_std": config.image_std, "aspect": config.aspect}
    return {key: value for key, value in given.items() if value is not None}


def changes_of(config: ModelConfig) -> dict[str, Any]:
    """The fields of the model's own config that are given."""
    given = {key: getattr(config, key) for key in ("adapter", "branches", "more_towers", "feature_layer", "keep_cls", "video")}
    return {key: value for key, value in given.items() if value is not None}


def _with_place(described: dict[str, Any]) -> dict[str, Any]:
    if "from" not in described or described.get("library", "transformers") != "transformers":
        return described  # timm's and open_clip's names are theirs to understand
    return described | {"from": place_of(described["from"])}


def place_of(name: str) -> str:
    """Where a named model is: the folder of a bundled one, else the name itself. UserError for a folder that is not there."""
    from ...backends.load import find_name

    scheme, place = find_name(name)
    if scheme != "hf":
        raise UserError(f"'{name}' has no weights to train; give a folder, a hub id or a bundled model's name")
    return place


# -- one that is there -------------------------------------------------------------------------------------------------


def _changed(config: ModelConfig, name: str) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ...models import assembly

    model, processor = _load(place_of(name), config.revision)
    changes = changes_of(config)
    more = {key: _with_place(tower) for key, tower in changes.pop("more_towers", {}).items()}
    further = _constants_so_far(model, more)
    if changes or more:
        model = assembly.replace_parts(model, **changes, **({"more_towers": more} if more else {}))
    processor = assembly.adjusted(model, processor, config.prompt_style, config.chat_template, **_given_pictures(config))
    _write_constants(model, processor, further | _constants_of_more(model, more))
    return model, processor


def _load(place: str, revision: str | None) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ...models import assembly, hub

    folder = Path(place) if Path(place).is_dir() else hub.snapshot(place, revision)
    kind = assembly.kind_of(folder)
    if kind not in assembly.LOADERS:
        raise UserError(
            f"'{place}' holds a {kind or 'folder without config.json'}; training starts from a model of this toolkit ({OURS}), LLaVA "
            f"({', '.join(LLAVA)}) or released AITQE (mm). For another architecture give `model.vision` and `model.text`."
        )
    return assembly.LOADERS[kind](folder)


# -- constants of the pixels -------------------------------------------------------------------------------------------


def _constants_of_more(model: LvlmForConditionalGeneration, described: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The constants of each described further tower."""
    return {name: _constants(model.config.tower_configs[name], tower) for name, tower in described.items()}


def _constants_so_far(model: LvlmForConditionalGeneration, replaced: Collection[str]) -> dict[str, dict[str, Any]]:
    """The constants by which each further tower of a model that is there reads its pixels; its branches then say them too.

    Branches of towers that are to be replaced forget theirs.
    """
    if model.config.branches is None:
        return {}
    model.config.branches = [_written_out(branch, branch["tower"] in replaced) for branch in model.config.branches]
    ways = [branch for branch in model.config.branches if branch["tower"] not in ("vision_tower", *replaced)]
    return {branch["tower"]: {"image_mean": branch["mean"], "image_std": branch["std"]} for branch in reversed(ways)}


def _written_out(branch: Mapping[str, Any], replaced: bool) -> dict[str, Any]:
    if replaced:
        return dict(branch) | {"mean": None, "std": None}
    if branch["tower"] == "vision_tower" or branch["mean"] is not None:
        return dict(branch)
    return dict(branch) | {"mean": branch["given_mean"], "std": branch["given_std"]}


def _write_constants(model: LvlmForConditionalGeneration, processor: LvlmProcessor, further: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes into the branches which constants the pixels come with, and for those of `further` towers, unless given, their own."""
    given = [list(getattr(processor.image_processor, key)) for key in CONSTANTS]
    if model.config.branches is not None:
        model.config.branches = [_with_constants(branch, given, further.get(branch["tower"], {})) for branch in model.config.branches]


def _with_constants(branch: Mapping[str, Any], given: list[list[float]], own: Mapping[str, Any]) -> dict[str, Any]:
    known = [branch["mean"], branch["std"]] if branch["mean"] is not None else [own.get(key) for key in CONSTANTS]
    wanted = [list(given[i] if values is None else values) for i, values in enumerate(known)]
    mean, std = (None, None) if wanted == given else wanted
    return dict(branch) | {"given_mean": given[0], "given_std": given[1], "mean": mean, "std": std}
