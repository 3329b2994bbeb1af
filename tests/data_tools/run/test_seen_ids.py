"""Ids seen before, over many shards, against a set."""

import numpy as np

from data_tools.run.seen_ids import SeenIds


def test_seen_ids_over_many_shards():
    seen, rng = SeenIds(), np.random.default_rng(0)
    known: set[int] = set()
    for _ in range(40):
        ids = rng.integers(0, 500, 20).astype("<u8")
        expected, here = [], set()
        for i in ids.tolist():
            expected.append(i != 0 and (i in known or i in here))
            here.add(i)
        assert seen.repeated(ids).tolist() == expected
        seen.add(ids)
        known |= here - {0}
    assert len(seen._runs) < 8
