"""One file a verb: `run(config) -> Report`, thin, nothing heavy at module level; a verb of many parts, or a family, has a room."""

TRAIN_RECIPES = ("pretrain", "sft", "eeca", "adapters", "preference", "aitqe")  # folders of `mmalign train`'s packaged configs
