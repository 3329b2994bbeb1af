"""How a run's shards get to more hands than one: this table names the engines, one file each; `schedule` is what they share."""

ENGINES = {"local": "local", "ray": "ray_"}
