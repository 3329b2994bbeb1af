"""`mmalign enhance-data --engine ray`: the end is that of one process, whatever happens to actors, nodes or the head."""

import importlib.util
import signal
import socket
import sys
import time

import engine_faults as faults
import pytest

from data_tools.engines import ray_
from data_tools.run.directory import RunStopped
from mm_align.cli import main

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed")


@pytest.fixture
def machine(tmp_path):
    return faults.Machine(tmp_path)


@pytest.fixture
def cluster(machine, monkeypatch):
    """Starts clusters of two nodes with one CPU each, the second added after the head, all with the breaking null model."""
    from ray.cluster_utils import Cluster

    given = {"PYTHONPATH": machine.path, "FAULT_MARKS": str(machine.marks), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    for name, value in (given | {"RAY_health_check_period_ms": "500", "RAY_gcs_rpc_server_reconnect_timeout_s": "3"}).items():
        monkeypatch.setenv(name, value)
    started = []

    def start(nodes=2, slow=0.0, **head):
        monkeypatch.setenv("FAULT_SLOW", str(slow))
        one = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **head})
        started.append(one)
        return one, [one.add_node(num_cpus=1) for _ in range(nodes - 1)]

    yield start
    for one in started:
        one.shutdown()


def alone(machine, source, out):
    """The undisturbed single-process run."""
    for mark in ("killed", "cured"):
        (machine.marks / mark).touch()
    assert machine.run(source, out)[0] == 0
    return faults.results(out)


@needs_ray
def test_actors_that_die_and_a_poisoned_shard(machine, tmp_path, cluster):
    """One actor is killed once and replaced; part-0 kills every actor, is named, and is done once it is cured."""
    source = faults.write_source(tmp_path / "src", words={0: "POISON", 3: "KILLONCE"})
    one, _ = cluster()
    ray = ("--engine", "ray", "--ray-address", one.address)
    code, said = machine.run(source, tmp_path / "two", *ray)
    assert code == 75, said
    assert "1 of 5 shards killed 3 workers each" in said
    assert "'part-0'" in said
    assert "a worker died at judge of 'part-3'" in said
    (machine.marks / "cured").touch()
    code, said = machine.run(source, tmp_path / "two", *ray, "--workers", "1")
    assert code == 0, said
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


@needs_ray
def test_a_node_is_removed(machine, tmp_path, cluster):
    source = faults.write_source(tmp_path / "src")
    one, (second,) = cluster(slow=0.2)
    run = machine.start(source, tmp_path / "two", "--engine", "ray", "--ray-address", one.address)
    until = time.monotonic() + 60
    while len(list(machine.marks.glob("pid-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert run.poll() is None
    one.remove_node(second, allow_graceful=False)
    code, said = faults.end_of(run)
    assert code == 0, said
    assert "a worker died" in said
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("dies", ["head", "all"])
def test_the_head_is_gone_and_another_takes_its_place(machine, tmp_path, cluster, dies):
    """The head's process alone, with its machine and workers alive, or all at once: exit 75 and a sentence; a new cluster continues."""
    source = faults.write_source(tmp_path / "src")
    one, _ = cluster(nodes=1, slow=0.3)
    address = one.address
    run = machine.start(source, tmp_path / "two", "--engine", "ray", "--ray-address", address, **{ray_.RECONNECT: "15"})
    machine.worker(run)
    time.sleep(0.5)
    if dies == "head":
        one.head_node.kill_gcs_server()
    else:
        one.shutdown()
    code, said = faults.end_of(run)
    assert code == 75, said
    assert f"stopped: the head of the Ray cluster at {address} is gone: it has not answered for " in said
    assert "Traceback" not in said
    one.shutdown()
    two, _ = cluster(nodes=1)
    code, said = machine.run(source, tmp_path / "two", "--engine", "ray", "--ray-address", two.address)
    assert code == 0, said
    assert "continuing the unfinished run" in said
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def test_a_head_that_comes_back_is_waited_for(monkeypatch):
    """Missed for less than a third of Ray's own time it is not gone; missed for longer it is, and it is said where it was."""
    monkeypatch.setenv(ray_.RECONNECT, "3")
    monkeypatch.setattr(ray_, "LOOK_EVERY", 0.0)
    place = socket.create_server(("127.0.0.1", 0))
    port = place.getsockname()[1]
    head = ray_.Head(f"127.0.0.1:{port}")
    head.look()
    place.close()
    head.look()
    assert not head.answers()
    with socket.create_server(("127.0.0.1", port)):
        head.look()
        assert head.missed is None
    head.look()
    time.sleep(1.1)
    with pytest.raises(RunStopped, match=f"at 127.0.0.1:{port} is gone: it has not answered for 1 s"):
        head.look()


@needs_ray
def test_the_command_is_asked_to_stop(machine, tmp_path, cluster):
    source = faults.write_source(tmp_path / "src", shards=3)
    one, _ = cluster(nodes=1, slow=0.2)
    run = machine.start(source, tmp_path / "two", "--engine", "ray", "--ray-address", one.address)
    machine.worker(run)
    run.send_signal(signal.SIGTERM)
    code, said = faults.end_of(run)
    assert code == 75, said
    assert machine.run(source, tmp_path / "two", "--workers", "2")[0] == 0  # another engine may go on
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


@needs_ray
def test_a_cluster_without_the_gpu_that_is_needed(machine, tmp_path, cluster):
    source = faults.write_source(tmp_path / "src", shards=1)
    one, _ = cluster(nodes=1)
    began = time.monotonic()
    code, said = machine.run(source, tmp_path / "out", "--engine", "ray", "--ray-address", one.address, "--gpus-per-worker", "1")
    assert code == 2, said
    assert "each needs 1 CPU and 1 GPU, found " in said
    assert "1 CPU, 0 GPU" in said
    assert time.monotonic() - began < 30


@needs_ray
@pytest.mark.parametrize(
    ("address", "said"), [("127.0.0.1:1", "ray start --head"), ("ray://127.0.0.1:10001", "HOST:PORT"), ("somewhere", "HOST:PORT")]
)
def test_an_address_without_a_cluster(tmp_path, address, said, capsys):
    source = faults.write_source(tmp_path / "src", shards=1)
    assert (
        main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--model", "null:", "--engine", "ray", "--ray-address", address])
        == 2
    )
    assert said in capsys.readouterr().err


def test_without_the_extra(tmp_path, monkeypatch, capsys):
    source = faults.write_source(tmp_path / "src", shards=1)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 2
    assert "pip install 'mm-align[ray]'" in capsys.readouterr().err
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--gpus-per-worker", "1"]) == 2
    assert "--gpus-per-worker has no effect without --engine ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
