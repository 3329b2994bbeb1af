"""The stages of `mmalign enhance-data`: which tell signals, the rules over what they tell, alone or before the quality model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .cascade import calibration, check_cascade, put_before
from .scorers import SCORING, asked_stages, check_scorers, names_of

if TYPE_CHECKING:
    from data_tools.filters import Filter, FilterStep
    from data_tools.filters.rules import Rule
    from data_tools.filters.scan import Unseen
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Step

    from .config import EnhanceConfig

STAGES = ("signals", *SCORING, "aitqe")
BLOCK_ROWS = 256  # read, told and committed together where no model sets the size of a batch
# options that stages before the quality model heed, and those that it heeds
OF_SIGNALS = ("signals", "drop_if", "keep_if", "license_allow", "near_text_threshold", "perceptual_radius", "report_only")
OF_MODEL = ("model", "revision", "prompt", "policy", "max_rewrite_fraction", "mode", "max_tokens", "rescore", "guards")
AUDIT_FIELD = "filters"  # of rows that no model judged


def check_stages(config: EnhanceConfig) -> None:
    """ValueError for stages, signals and rules that do not fit together."""
    unknown = [stage for stage in config.stages if stage not in STAGES]
    if unknown or not config.stages:
        raise ValueError(f"--stages {','.join(config.stages)}: there are {', '.join(STAGES)}, alone or several")
    if repeated := [stage for stage in config.stages if config.stages.count(stage) > 1]:
        raise ValueError(f"--stages {','.join(config.stages)} names {repeated[0]} twice; leave one out")
    check_scorers(config)
    _refuse_idle(config)
    check_cascade(config, tells_signals(config))
    if tells_signals(config):
        step = filter_step(config, None)
        if config.cascade:
            calibration(config, step)


def _refuse_idle(config: EnhanceConfig) -> None:
    """ValueError for wishes that no stage heeds, and for a licence without a name; a default, written out, is no wish."""
    fields = type(config).model_fields
    given = {name for name in (*OF_SIGNALS, *OF_MODEL) if getattr(config, name) != fields[name].get_default(call_default_factory=True)}

    def first(names: Sequence[str]) -> str | None:
        return next((f"--{name.replace('_', '-')}" for name in names if name in given), None)

    if (idle := first(OF_SIGNALS)) and not tells_signals(config):
        raise ValueError(f"{idle} has no effect without the signals: add --stages signals or --stages signals,aitqe")
    if (idle := first(OF_MODEL)) and "aitqe" not in config.stages:
        raise ValueError(f"{idle} is about the quality model: add aitqe to --stages")
    if not all(config.license_allow):
        raise ValueError("--license-allow holds an empty name; give licences as cc-by-4.0,cc0-1.0")


def tells_signals(config: EnhanceConfig) -> bool:
    """Whether a stage before the quality model is asked for."""
    return "signals" in config.stages or bool(asked_stages(config))


def filter_step(config: EnhanceConfig, then: Step | None, scorers: Sequence[Filter] = ()) -> FilterStep:
    """The filters and rules that are asked for. ValueError names an unknown signal and the nearest.

    scorers: the filters of the stages that ask a model, once these are loaded.
    """
    from data_tools.filters import FilterStep, kinds_of

    filters, scored = _filters(config), _scored(config)
    shared = {name for one in filters for name in one.names} | {name for name in scored if SCORING[_room(name)].scanned}
    rules = _rules(config, kinds_of(filters) | scored, shared)
    # a scorer of which a rule wants a share tells of every row before any is judged, as the filters do
    early = {_room(share.name) for rule in rules for share in rule.shares}
    scanned = [one for one in scorers if _room(one.names[0]) in early]
    return FilterStep([*filters, *scanned], rules, then, config.report_only, [one for one in scorers if one not in scanned])


def _room(name: str) -> str:
    return name.partition(".")[0]


def _filters(config: EnhanceConfig) -> list[Filter]:
    """Those of stage signals."""
    from data_tools.filters import FILTERS
    from data_tools.filters.choice import chosen

    cheap = [name for name in config.signals if _room(name) not in asked_stages(config)]
    if dear := _dear(config):
        cheap = [*(cheap if config.signals else FILTERS), *dear]
    wanted = "signals" in config.stages and (cheap or not config.signals)
    if cheap:
        cheap += _rights(config)  # honoured whatever else is asked for
    return chosen(cheap, FILTERS, _options(config)) if wanted else []


def _options(config: EnhanceConfig) -> dict[str, dict[str, Any]]:
    """What filters are made with beside names, by room."""
    return {
        "near_text": {"threshold": config.near_text_threshold},
        "perceptual": {"radius": config.perceptual_radius},
        "rights": {"allowed": config.license_allow},
    }


def _dear(config: EnhanceConfig) -> list[str]:
    """The signals told on request only that a rule names."""
    from data_tools.filters import FILTERS

    names = [name for kind in FILTERS.values() for name in sorted(getattr(kind, "on_request", ()))]
    return [name for name in names if any(re.search(rf"\b{re.escape(name)}\b", rule) for rule in (*config.drop_if, *config.keep_if))]


def _rights(config: EnhanceConfig) -> dict[str, str]:
    """The signals by which rows leave for want of a right to use them, and each one's rule."""
    opt_out = {"rights.opt_out": "rights.opt_out"} if config.opt_outs == "drop" else {}
    return opt_out | ({"rights.licensed": "not rights.licensed"} if config.license_allow else {})


def _scored(config: EnhanceConfig) -> dict[str, type]:
    """What the stages that ask a model will tell, and of which type."""
    from data_tools.filters import SCORERS

    return {name: SCORERS[stage].kinds[name] for stage in asked_stages(config) for name in names_of(config, stage)}


def _rules(config: EnhanceConfig, kinds: Mapping[str, type], shared: Collection[str]) -> list[Rule]:
    """Rules by which rows leave; one to keep is the denial of itself. Raises RuleError (a ValueError).

    shared: the signals whose values are known of all rows before any is judged, so that a rule can ask for a share of them.
    """
    from data_tools.filters.rules import parse

    for text in config.keep_if:
        parse(text, kinds)  # so that a mistake is shown in what was typed
    rights = [rule for name, rule in _rights(config).items() if name in kinds]
    rules = [parse(text, kinds) for text in (*rights, *config.drop_if, *(f"not ({text})" for text in config.keep_if))]
    for rule in rules:
        late = [share for share in rule.shares if share.name not in shared]
        if late:
            raise ValueError(f"rule '{rule}': '{late[0]}' cannot be told, for {late[0].name} is known only while rows are judged")
        rule({name: kind() for name, kind in kinds.items()})  # a text that meets a number is refused before the first row
    return rules


def signal_parts(
    config: EnhanceConfig, then: Step | None, parts: Mapping[str, Any], scorers: Sequence[Filter] = (), run_dir: RunDir | None = None
) -> dict[str, Any]:
    """What a plan needs to know of the stages; `parts`: of the model's, if there is one, whose audit then bears the signals too.

    run_dir: where a scan of all rows is kept; without one, filters tell of each block on its own.
    """
    from data_tools.filters.audit import audit_fields, audit_type, with_signals

    step = filter_step(config, then, scorers)
    told = {"step": step, "look": step.look} | _scan(step, _unseen(config, step), run_dir)
    if config.cascade and run_dir is not None:
        told |= put_before(step, config, run_dir)
    if then is None:
        audit: dict[str, Any] = {"audit": audit_fields, "audit_type": lambda: audit_type(step.kinds)}
        return {**told, **audit, "audit_field": AUDIT_FIELD, "keeps_raw": False}
    return {**told, **with_signals(parts["audit"], parts["audit_type"], step.kinds)}


def _unseen(config: EnhanceConfig, step: FilterStep) -> Unseen | None:
    """The rules by which a row leaves whatever its pictures are; none where nothing leaves, or a rule asks for a share of all rows."""
    from data_tools.filters import FILTERS
    from data_tools.filters.choice import chosen
    from data_tools.filters.scan import Unseen

    told = {name for one in step.filters if one.needs <= {"caption"} for name in one.names}
    rules = [rule for rule in step.rules if told.issuperset(rule.names)]
    if not rules or config.report_only or any(rule.shares for rule in step.rules):
        return None
    return Unseen(chosen(sorted({name for rule in rules for name in rule.names}), FILTERS, _options(config)), rules)


def _scan(step: FilterStep, unseen: Unseen | None, run_dir: RunDir | None) -> dict[str, Any]:
    """The scan that tells the step's signals before any row is judged."""
    from data_tools.filters.scan import Scan
    from data_tools.filters.scanned import Scanned

    if run_dir is None or not step.filters:
        return {}
    scan = Scan(step.filters, step.rules, unseen=unseen)
    step.scanned = Scanned(scan, run_dir)
    return {"scan": scan, "by_scan": not step.asks}


def block_rows(config: EnhanceConfig, models: Sequence[int | None] = ()) -> int:
    """Rows of a block: as asked, else what the least of the models likes, else `BLOCK_ROWS`."""
    return config.batch_size if isinstance(config.batch_size, int) else min([BLOCK_ROWS, *(size for size in models if size)])


def about_stages(config: EnhanceConfig) -> dict[str, Any]:
    """For the report: the stages, the signals and the rules."""
    if not tells_signals(config):
        return {}
    step = filter_step(config, None)
    return {"filters": {**step.describe(), "signals": [*step.kinds, *_scored(config)]}}
