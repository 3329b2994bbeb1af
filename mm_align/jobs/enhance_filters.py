"""Stage `signals` of `mmalign enhance-data`: cheap filters and the rules over what they tell, alone or before the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_tools.filters import FilterStep
    from data_tools.filters.rules import Rule
    from data_tools.plan import Step

    from .enhance import EnhanceConfig

STAGES = ("signals", "aitqe")
BLOCK_ROWS = 256  # read, told and committed together where no model sets the size of a batch
AUDIT_FIELD = "filters"  # of rows that no model judged


def check_stages(config: EnhanceConfig) -> None:
    """ValueError for stages, signals and rules that do not fit together."""
    unknown = [stage for stage in config.stages if stage not in STAGES]
    if unknown or not config.stages:
        raise ValueError(f"--stages {','.join(config.stages)}: there are {', '.join(STAGES)}, alone or both")
    rules = {"--signals": config.signals, "--drop-if": config.drop_if, "--keep-if": config.keep_if}
    idle = [flag for flag, given in rules.items() if given]
    if idle and "signals" not in config.stages:
        raise ValueError(f"{idle[0]} has no effect without the signals: add --stages signals or --stages signals,aitqe")
    if "signals" in config.stages:
        filter_step(config, None)


def filter_step(config: EnhanceConfig, then: Step | None) -> FilterStep:
    """The filters and rules that are asked for. ValueError names an unknown signal and the nearest."""
    from data_tools.filters import FILTERS, FilterStep, kinds_of
    from data_tools.filters.choice import chosen

    filters = chosen(config.signals, FILTERS)
    return FilterStep(filters, _rules(config, kinds_of(filters)), then, config.report_only)


def _rules(config: EnhanceConfig, kinds: Mapping[str, type]) -> list[Rule]:
    """Rules by which rows leave; one to keep is the denial of itself. Raises RuleError (a ValueError)."""
    from data_tools.filters.rules import parse

    for text in config.keep_if:
        parse(text, kinds)  # so that a mistake is shown in what was typed
    rules = [parse(text, kinds) for text in (*config.drop_if, *(f"not ({text})" for text in config.keep_if))]
    for rule in rules:
        if rule.shares:
            raise ValueError(f"rule '{rule}': a share of all rows cannot be told while they are read once; compare with a value")
        rule({name: kind() for name, kind in kinds.items()})  # a text that meets a number is refused before the first row
    return rules


def signal_parts(config: EnhanceConfig, then: Step | None, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan needs to know of the stage; `parts`: of the model's, if there is one, whose audit then bears the signals too."""
    from data_tools.filters.audit import audit_fields, audit_type, with_signals

    step = filter_step(config, then)
    if then is None:
        audit: dict[str, Any] = {"audit": audit_fields, "audit_type": lambda: audit_type(step.kinds)}
        return {"step": step, **audit, "audit_field": AUDIT_FIELD, "keeps_raw": False}
    return {"step": step, **with_signals(parts["audit"], parts["audit_type"], step.kinds)}


def block_rows(config: EnhanceConfig) -> int:
    return config.batch_size if isinstance(config.batch_size, int) else BLOCK_ROWS


def told_of(config: EnhanceConfig) -> dict[str, Any]:
    """For the report: the stages, the signals and the rules."""
    return {"filters": filter_step(config, None).describe()} if "signals" in config.stages else {}
