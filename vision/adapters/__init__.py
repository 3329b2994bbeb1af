"""The table of adapters: the `type` key of an adapter config -> class."""

from .base import Adapter
from .build import build_adapter
from .c_abstractor import CAbstractorAdapter
from .channel_concat import ChannelConcatAdapter
from .eeca import EecaAdapter
from .interleaved_mof import InterleavedMofAdapter
from .linear import LinearAdapter
from .mlp import MlpAdapter
from .opt_visor import OptVisorAdapter
from .pixel_shuffle import PixelShuffleAdapter
from .pool_mlp import PoolMlpAdapter
from .qformer import QFormerAdapter
from .resampler import ResamplerAdapter
from .start import StartsItself
from .sva import SvaAdapter
from .window_attention import WindowAttentionAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    "c_abstractor": CAbstractorAdapter,
    "channel_concat": ChannelConcatAdapter,
    "eeca": EecaAdapter,
    "interleaved_mof": InterleavedMofAdapter,
    "linear": LinearAdapter,
    "mlp": MlpAdapter,
    "opt_visor": OptVisorAdapter,
    "pixel_shuffle": PixelShuffleAdapter,
    "pool_mlp": PoolMlpAdapter,
    "qformer": QFormerAdapter,
    "resampler": ResamplerAdapter,
    "sva": SvaAdapter,
    "window_attention": WindowAttentionAdapter,
}

__all__ = ["ADAPTERS", "Adapter", "StartsItself", "build_adapter"]
