"""How a run's shards get to more hands than one: this table names the engines, one file each; `schedule` is what they share.

An engine's file has `pool(build, setup, run_dir, wanted)`: its `Pool`, and how many workers there are to be.
"""

ENGINES = {"local": "local", "ray": "ray_"}
