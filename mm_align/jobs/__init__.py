"""One file a verb: `run(config) -> Report`, thin, nothing heavy at module level."""
