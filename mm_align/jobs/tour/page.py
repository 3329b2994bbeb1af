"""`tour.html` and `tour.json`: what came in, what each stage changed, what that took, where every file lies; written after each stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import Cost, is_done, known_cost, places_of, stage_cost
from .config import Figure, TourConfig, text_of
from .shows import Where, number_at, shown

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from .config import Stage

PAGE, NUMBERS = "tour.html", "tour.json"


def write_page(config: TourConfig, run: RunDir) -> None:
    """Both files, of what there is so far."""
    from data_tools.disk.durable import to_json, write_atomic
    from data_tools.report.page import put_page

    stages = [told(config, run, stage) for stage in config.stages]
    whole = whole_cost(config, run)
    headline = [heading(figure, run.root / "work") for figure in config.headline]
    places = [(place, what, size_of(run.root / "work" / place)) for place, what in config.places.items()]
    parts = {"config": config, "stages": stages, "headline": headline, "places": places, "root": str(run.root.absolute())}
    put_page(run.root / PAGE, __package__, "tour.html.j2", cost=cost_in_words(whole), **parts)
    write_atomic(run.root / NUMBERS, to_json(numbers(config, stages, whole, headline)))


def numbers(config: TourConfig, stages: list[dict[str, Any]], whole: Cost, headline: list[dict[str, Any]]) -> dict[str, Any]:
    """What a script would want: costs and figures."""
    kept = ("name", "title", "state", "costs")
    return {
        "title": config.title,
        **whole._asdict(),
        "stages": [{key: stage[key] for key in kept} for stage in stages],
        "headline": [{key: one[key] for key in ("label", "value", "before")} for one in headline],
    }


def whole_cost(config: TourConfig, run: RunDir) -> Cost:
    """What all stages took together."""
    whole = Cost()
    for stage in config.stages:
        whole = whole.plus(stage_cost(run, stage, config.jobs))
    return whole


def told(config: TourConfig, run: RunDir, stage: Stage) -> dict[str, Any]:
    """A stage as the template reads it."""
    places = [place for group in places_of(stage, run.root) for place in group]
    done = [is_done(run, place) for place in places]
    state = "done" if all(done) else "begun" if any(run.done(place.name) for place in places) else "to come"
    where = Where(stage, run.root)
    return {
        "name": stage.name,
        "title": stage.title,
        "why": stage.why,
        "state": state,
        "cost": cost_in_words(stage_cost(run, stage, config.jobs)),
        "costs": [{"command": place.command, **known_cost(run, place)._asdict()} for place in places],
        "commands": [(place.command, cost_in_words(known_cost(run, place)), ok) for place, ok in zip(places, done, strict=True)],
        "files": [(name, text_of(content).rstrip()) for name, content in stage.files.items()],
        "shows": [shown(show, where) for show in stage.shows] if any(done) else [],
    }


def heading(figure: Figure, work: Path) -> dict[str, Any]:
    """A number of the headline, in words too."""
    value, before = number_at(figure, work)
    return {
        "label": figure.label,
        "value": value,
        "before": before,
        "told": in_words(value, percent=figure.percent),
        "was": in_words(before, percent=figure.percent) if before is not None else "",
    }


def in_words(value: float | None, *, percent: bool) -> str:
    from data_tools.report.page import number

    if value is None or not percent:
        return number(value)
    return f"{100 * value:.1f} %"


def cost_in_words(cost: Cost) -> dict[str, str]:
    """Seconds as minutes and seconds, bytes as MB; empty where nothing has run or nobody knows."""
    return {
        "time": duration(cost.seconds) if cost.seconds else "",
        "cpu": duration(cost.cpu) if cost.cpu else "",
        "memory": f"{cost.memory / 1e6:,.0f} MB" if cost.memory else "",
    }


def duration(seconds: float) -> str:
    """ "0.8 s", "42 s", "3 min 05 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size_of(path: Path) -> str:
    """Bytes of a file or of all in a folder, in words; "" where there is nothing."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if not files:
        return ""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
