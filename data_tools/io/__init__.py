"""Reading and writing of samples, one file a format; this table is the list of formats."""

from .face import FORMATS, extension, read, write
from .images import BadImage, decode, measured
from .listing import list_shards
from .manifest import image_root_of, read_manifest, write_manifest
from .paths import SourceError
from .shard import Shard
from .writer import Writer

__all__ = [
    "FORMATS",
    "BadImage",
    "Shard",
    "SourceError",
    "Writer",
    "decode",
    "extension",
    "image_root_of",
    "list_shards",
    "measured",
    "read",
    "read_manifest",
    "write",
    "write_manifest",
]
