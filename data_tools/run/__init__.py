"""One run over shards: its directory, its plan, and what becomes of each shard: rows in blocks, judged (pass 1), finalised (pass 2)."""
