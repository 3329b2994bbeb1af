"""Schedules: golden values by hand, equality with transformers', branches from stable checkpoints, refusals."""

import math
import subprocess
import sys
from typing import Any

import pydantic
import pytest
import torch
from transformers.optimization import get_scheduler

from mm_align.config import JobConfig, UserError, load
from mm_align.train.schedules import SCHEDULES
from mm_align.train.schedules.choice import ScheduleConfig, build_schedule
from mm_align.train.schedules.wsd import WsdSchedule


class Run(JobConfig):
    schedule: ScheduleConfig = pydantic.Field(default_factory=SCHEDULES["cosine"], description="How the rate moves.")


def factors(schedule: Any, total: int) -> list[float]:
    return [schedule.lr_factor(step, total) for step in range(total + 3)]


def library(name: str, total: int, warmup: int, **options: Any) -> list[float]:
    """transformers' learning rates with peak 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=options)
    rates = []
    for _ in range(total + 3):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_golden_values_of_wsd() -> None:
    """Peak 0.01, W = 100, decay from 1000 with half-life 50: 50/100 of the peak at 50; the peak from 100 to 1000;
    2^-(50/50) = 1/2 of it at 1050; 2^-(100/50) = 1/4 at 1100."""
    schedule = WsdSchedule(warmup=100, decay=100, half_life=50, floor=0)
    rates = {step: 0.01 * schedule.lr_factor(step, 1100) for step in (0, 50, 100, 500, 1000, 1050, 1100)}
    assert rates == pytest.approx({0: 0, 50: 0.005, 100: 0.01, 500: 0.01, 1000: 0.01, 1050: 0.005, 1100: 0.0025}, abs=1e-15)


def test_exp_ends_at_its_floor() -> None:
    """d = 100, floor 0.1: half-life 100 / log2(10) = 30.103; at half of the decay 0.1^(1/2) = 0.31623."""
    schedule = WsdSchedule(warmup=0, decay=100)
    assert schedule.lr_factor(1100, 1100) == pytest.approx(0.1, abs=1e-12)
    assert schedule.lr_factor(1050, 1100) == pytest.approx(math.sqrt(0.1), abs=1e-12)
    assert schedule._half_life(100) == pytest.approx(30.103, abs=1e-3)


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_wsd_equals_the_library(shape: str, floor: float) -> None:
    """With a floor the library starts its warm-up at the floor, ours at 0: compared from the peak on."""
    expected = library("warmup_stable_decay", 60, 6, num_decay_steps=20, decay_type=shape, min_lr_ratio=floor)
    ours = factors(WsdSchedule(warmup=6, decay=20, shape=shape, floor=floor), 60)
    first = 6 if floor else 0
    assert ours[first:] == pytest.approx(expected[first:], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "library_name", "ours", "theirs"),
    [
        ("cosine", "cosine", {}, {}),
        ("cosine", "cosine_with_min_lr", {"floor": 0.1}, {"min_lr_rate": 0.1}),
        ("linear", "linear", {}, {}),
        ("constant", "constant_with_warmup", {}, {}),
    ],
)
def test_the_others_equal_the_library(name: str, library_name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    expected = library(library_name, 50, 5, **theirs)
    # past the end the library's cosine with a floor rises again; a run never goes there
    assert factors(SCHEDULES[name](warmup=0.1, **ours), 50)[:51] == pytest.approx(expected[:51], abs=1e-12)


def test_shares_are_of_all_steps_and_round_up() -> None:
    """3 % of 101 steps: 3.03, so 4 steps; a decay of a tenth: 10.1, so 11 steps, from step 90."""
    schedule = WsdSchedule(warmup=0.03, decay=0.1)
    assert [schedule.lr_factor(step, 101) for step in (1, 3, 4, 90)] == pytest.approx([0.25, 0.75, 1, 1])
    assert schedule.lr_factor(91, 101) < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_contract(name: str) -> None:
    """From 0 up to 1, never above, flat after the last step; the same numbers twice."""
    schedule = SCHEDULES[name](warmup=10)
    values = factors(schedule, 100)
    assert values[0] == 0
    assert values[10] == 1
    assert all(0 <= value <= 1 for value in values)
    assert values[100] == values[101] == values[102]
    assert values == factors(schedule, 100)
    assert schedule.type == name


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_is_read_from_yaml(name: str) -> None:
    config = load(Run, {"schedule": {"type": name, "warmup": 5}})
    assert isinstance(config.schedule, SCHEDULES[name])
    assert load(Run, config.model_dump(mode="json")) == config
    assert build_schedule({"type": name, "warmup": 5}) == config.schedule


def test_without_a_type_it_is_the_cosine() -> None:
    assert load(Run, {}).schedule == load(Run, {"schedule": {"warmup": 0.03}}).schedule == SCHEDULES["cosine"]()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "wsdd"}, "'schedule': its type should be one of cosine, linear, constant, wsd"),
        ({"type": "wsd", "shpae": "exp"}, "unknown key 'schedule.shpae'; did you mean 'shape'"),
        ({"warmup": 2.5}, "'schedule.warmup': should be a share below 1 or a whole number of steps, but is 2.5"),
        ({"type": "wsd", "floor": 0}, "shape exp never reaches 0: give a floor above 0, or a half_life"),
        ({"type": "wsd", "shape": "linear", "half_life": 3}, "half_life belongs to shape exp"),
    ],
)
def test_a_wrong_schedule_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(Run, {"schedule": given})
    assert message in str(caught.value)


def test_phases_longer_than_the_run_are_refused() -> None:
    with pytest.raises(ValueError, match="a warm-up of 8 and a decay of 5 steps are longer than the run of 10"):
        WsdSchedule(warmup=8, decay=5).lr_factor(9, 10)
    with pytest.raises(ValueError, match="a warm-up of 20 steps is longer than the run of 10"):
        SCHEDULES["linear"](warmup=20).lr_factor(0, 10)


def test_a_config_needs_no_torch() -> None:
    code = "import sys, mm_align.train.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
