"""Architectures without weights for `mmalign memory`: from a config.json at hand, or from the sizes of a well-known model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError, first_line

if TYPE_CHECKING:
    from ...models import LvlmForConditionalGeneration
    from ...models.lvlm_config import LvlmConfig
    from ..train.config import ModelConfig


class AtHand(NamedTuple):
    """A config object, and where it is from."""

    config: Any
    told: str


def config_at_hand(name: str, revision: str | None = None) -> AtHand:
    """A folder's or bundled model's config, that of a well-known model, or the hub's (from its cache without a network). UserError."""
    from ...backends.load import ZOO, find_name
    from ...models import hub, known_shapes
    from ...models.headers import has_weights, read_headers
    from ...models.inspect import config_of
    from ...models.layout import read_json

    shape = None if Path(name).is_dir() else known_shapes.name_of(name)
    if shape is not None:
        stands = "" if shape == name else f", which stands for '{name}'"
        return AtHand(config_of(known_shapes.config_of(shape), None, None), f"the sizes of {shape}{stands}")
    try:
        scheme, place = find_name(name)
        if scheme != "hf":
            raise UserError(f"'{name}' has no weights on this machine")
        folder = Path(place)
        if not folder.is_dir():
            found = hub.read_config(place, revision)
            return AtHand(config_of(found.written, None, found.folder), f"{name}, the hub's config")
    except UserError as error:
        raise UserError(f"{error}\n{advice()}") from error
    written = read_json(folder / "config.json")
    headers = read_headers(folder) if has_weights(folder) else None
    return AtHand(
        config_of(written, headers, folder), f"{folder.name}, {'bundled' if folder.parent == ZOO else 'the config of the folder'}"
    )


def advice() -> str:
    """What can be named without a network."""
    from ...models import known_shapes

    return f"By their sizes alone are known: {', '.join(known_shapes.names())}. Of another model its config.json in a folder will do."


def picture_tokens(config: Any, guess: int) -> int:
    """Visual tokens of one picture: of ours exactly, of pictures in tiles the most, and `guess` where it depends on the picture."""
    from ...models.lvlm_config import LvlmConfig

    if isinstance(config, LvlmConfig):
        return int(config.num_image_tokens)
    whole = getattr(config, "image_seq_length", None) or guess
    tiles = getattr(config, "image_grid_pinpoints", None)
    return (
        int(whole) if tiles is None else int(whole) * (1 + max(high * wide for high, wide in tiles) // config.vision_config.image_size**2)
    )


def on_meta(config: Any) -> Any:
    """The architecture of any image-text config, without memory."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def to_train(config: ModelConfig, layers: int | None = None) -> tuple[LvlmForConditionalGeneration, str]:
    """The model that `mmalign train` would train, without weights, and where its sizes are from. layers: with so many decoder layers only.
    UserError where sizes are not at hand or do not fit."""
    found, told = config_to_train(config)
    if layers is not None:
        text = found.text_config.to_dict()
        kinds = {"layer_types": text["layer_types"][:layers]} if text.get("layer_types") else {}
        found.text_config = type(found.text_config)(**text | {"num_hidden_layers": layers} | kinds)
    return on_meta(found), told


def config_to_train(config: ModelConfig) -> tuple[LvlmConfig, str]:
    """The config of the model that `mmalign train` would train."""
    from ...models.assembly import REPLACED, checked_config
    from ...models.lvlm_config import LvlmConfig
    from ..train.model import changes_of

    changes = changes_of(config)
    if "more_towers" in changes:
        changes["more_towers"] = {name: tower_sizes(tower) for name, tower in changes["more_towers"].items()}
    if config.from_ is None:
        made = checked_config(vision_config=tower_sizes(config.vision or {}), text_config=text_sizes(config), **changes)
        return made, "the parts that the config names"
    found = config_at_hand(config.from_, config.revision)
    old = found.config
    if not isinstance(old, LvlmConfig):
        from ...models.llava_layout import is_llava, to_lvlm_config

        if not is_llava(old.to_dict()):
            raise UserError(f"'{config.from_}' is a {old.model_type} model, which `mmalign train` does not train; leave --train away")
        old = to_lvlm_config(old.to_dict())
    kept = {key: getattr(old, key) for key in (*REPLACED, "image_token_id", "tie_word_embeddings")}
    if "more_towers" in changes:
        changes["more_towers"] = (old.more_towers or {}) | changes["more_towers"]
    return checked_config(vision_config=old.vision_config, text_config=old.text_config, **(kept | changes)), found.told


def tower_sizes(described: dict[str, Any]) -> Any:
    """The vision config of a described tower. UserError where it is not at hand."""
    from vision.encoders import tower_config

    from ...models import known_shapes

    options = dict(described)
    source, library = options.pop("from", None), options.get("library", "transformers")
    try:
        if source is None:
            return tower_config(options)
        if library != "transformers":
            return tower_config({"name": source} | options)
        known = None if Path(source).is_dir() else known_shapes.tower_of(source)
        found = tower_config(_config(source) if known is None else known)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise UserError(f"the sizes of the vision tower {described} are not at hand: {first_line(error)}\n{advice()}") from error
    for key, value in options.items():
        setattr(found, key, value)
    return found


def text_sizes(config: ModelConfig) -> Any:
    """The config of a described language model; its words are the tokenizer's where it does not count them itself. UserError."""
    from transformers import AutoConfig

    from ...models import assembly, known_shapes
    from ..train.model import place_of

    options = dict(config.text or {})
    source = options.pop("from", None)
    if source is None:
        if "vocab_size" not in options and config.tokenizer:
            options["vocab_size"] = len(assembly.load_tokenizer(place_of(config.tokenizer))) + 1
        return options
    known = None if Path(source).is_dir() else known_shapes.text_of(source)
    try:
        return _config(source) if known is None else AutoConfig.for_model(**known)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"the sizes of the language model '{source}' are not at hand: {first_line(error)}\n{advice()}") from error


def _config(source: str) -> Any:
    from transformers import AutoConfig

    from ..train.model import place_of

    return AutoConfig.from_pretrained(place_of(source))
