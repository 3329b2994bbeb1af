"""What a selector may ask about a film's frames: how near they are to a query and to each other, by an encoder or by colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ...config import JobConfig, UserError

if TYPE_CHECKING:
    import numpy as np

    from video.decode import Reader
    from video.frames import Candidates
    from vision.pairs import Pair


class ScorerConfig(JobConfig):
    """Which encoder looks at the candidates."""

    encoder: str | None = Field(None, description="image-text encoder: a local folder or a name on the hub (CLIP, SigLIP and kin)")
    library: Literal["transformers", "open_clip"] = Field("transformers", description="library that the encoder belongs to")
    pretrained: str | None = Field(None, description="open_clip by built-in name: the tag or checkpoint file of its weights")
    look: int = Field(448, ge=16, description="shorter side at which candidates are decoded, where they are larger")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")


def candidates_of(config: ScorerConfig, video: Reader, places: np.ndarray, query: str | None) -> Candidates:
    """The frames of `video` at `places` [N], with as many questions as config and query allow; nothing is decoded before a question."""
    import numpy as np

    from video.frames import Candidates, colours

    def look(some: np.ndarray) -> Any:
        side = min(config.look, video.info.width, video.info.height)
        return video.clip(indices=places[some].tolist(), size=side).frames.numpy()

    times = video.info.times[places]
    if config.encoder is None:
        if query is not None:
            raise UserError("--query is compared with frames by an image-text encoder: name one with --encoder")
        return Candidates.watched(times, look, embed=colours)
    pair = _load(config)
    seen = _Seen(pair)
    if query is None:
        return Candidates.watched(times, look, embed=seen)
    wanted = pair.text_embeddings([query])[0].cpu().numpy().astype(np.float64)
    return Candidates.watched(times, look, embed=seen, score=lambda frames, _: seen(frames) @ wanted, query=wanted)


class _Seen:
    """Unit embeddings [m, D] of uint8 frames [m, 3, H, W]."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        from PIL import Image

        embedded = self.pair.image_embeddings([Image.fromarray(frame.transpose(1, 2, 0)) for frame in frames])
        units: np.ndarray = embedded.cpu().numpy()
        return units


def _load(config: ScorerConfig) -> Pair:
    from vision.pairs import load_pair

    from ...backends.load import check_device
    from ...backends.loading import pick_device
    from ...models.bars import hide_bars_without_terminal

    hide_bars_without_terminal()
    check_device(config.device, "float32")
    assert config.encoder is not None
    try:
        return load_pair(config.encoder, config.library, pretrained=config.pretrained, device=pick_device(config.device))
    except ValueError as error:
        raise UserError(str(error)) from error
