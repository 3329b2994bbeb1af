"""The contract of benchmarks, over the table: built from a config, scored twice alike, no model asked for a score."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.records import Response
from mm_align.evals import BENCHMARKS, Benchmark, build_benchmark


def qa(folder: Path) -> dict[str, Any]:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "x"}]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"id": f"q{i}", "conversations": turns}) for i in range(4)), encoding="utf-8")
    return {"data": str(folder / "rows.jsonl"), "question": None}


def objects(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"id": f"p{i}", "image": "a.png", "objects": ["x"]}) for i in range(4)))
    return {"data": str(folder / "rows.jsonl")}


# one row a benchmark: writes its data, gives its options
OPTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {"qa": qa, "objects": objects}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_contract(name: str, tmp_path: Path) -> None:
    benchmark = build_benchmark({"type": name, **OPTIONS[name](tmp_path)})
    assert isinstance(benchmark, Benchmark)
    ids = [sample.id for sample in benchmark.samples()]
    assert ids == [sample.id for sample in benchmark.samples()]
    assert len(set(ids)) == len(ids) > 0
    assert all(sample.messages[-1].role == "user" for sample in benchmark.samples())
    responses = {i: Response(f"{i}-0", i, "x") for i in ids}
    found = benchmark.score(responses)
    assert found == benchmark.score(responses)
    assert all(isinstance(value, int | float) for value in found.values())
    nothing = benchmark.score({})
    assert nothing.keys() == found.keys() >= benchmark.lower
    right, wrong = found[benchmark.main], nothing[benchmark.main]
    assert right < wrong if benchmark.main in benchmark.lower else right > wrong
    assert benchmark.sampling.temperature == 0
    with pytest.raises(ValueError, match="answer no sample"):
        benchmark.score({"somebody else's": Response("r", "somebody else's", "x")})


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown benchmark 'qaa'; did you mean 'qa'"):
        build_benchmark({"type": "qaa"})
    with pytest.raises(ValueError, match="has no option 'limits'; did you mean 'limit'"):
        build_benchmark({"type": "qa", "data": "x", "limits": 3})
