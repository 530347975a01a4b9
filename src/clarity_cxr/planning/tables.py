"""Plans as tables, in Markdown's own lines, so that they can be pasted into a page."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.box import MARKDOWN
from rich.table import Table

from clarity_cxr.planning.constants import Constants
from clarity_cxr.planning.plan import Step

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
"""Films of the table's columns when no number was asked for."""
WIDTH = 110
"""Characters that a table needs at most."""


def origin(constants: Constants) -> str:
    """One line on where the constants come from."""
    machine = constants.machine
    where = machine.get("accelerator") if constants.device != "cpu" else None
    return (
        f"measured {constants.date[:10]} on {where or machine['processor']}, {machine['cores']} cores: "
        f"{constants.model} and {constants.teacher} at {constants.size} px, batch {constants.batch_size}"
    )


def step_table(steps: Sequence[Step]) -> Table:
    """One plan: a row per step and their sum."""
    rows = [
        (step.name, step.hours, step.bottleneck, step.disk_bytes, step.host_bytes, step.device_bytes) for step in steps
    ]
    peaks = max(step.host_bytes for step in steps), max(step.device_bytes for step in steps)
    rows.append(("all", _hours(steps), "", _disk(steps), *peaks))
    table = _table("step", "time", "waits for", "disk", "memory", "of each device")
    for name, hours, bottleneck, *sizes in rows:
        table.add_row(name, duration_text(hours), bottleneck, *map(size_text, sizes))
    return table


def archive_table(plans: Mapping[int, Sequence[Step]]) -> Table:
    """Plans of several numbers of films: a column each, a row per step's time."""
    table = _table("films", *(f"{films:,}" for films in plans))
    for named in zip(*plans.values(), strict=True):
        table.add_row(named[0].name, *(duration_text(step.hours) for step in named))
    table.add_row("all", *(duration_text(_hours(steps)) for steps in plans.values()))
    longest = [max(steps, key=lambda step: step.hours) for steps in plans.values()]
    table.add_row("longest", *(step.name for step in longest))
    table.add_row("it waits for", *(step.bottleneck.split(":")[0] for step in longest))
    table.add_row("disk", *(size_text(_disk(steps)) for steps in plans.values()))
    table.add_row("memory", *(size_text(max(step.host_bytes for step in steps)) for steps in plans.values()))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=MARKDOWN)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, no_wrap=True, justify="left" if name == "waits for" else "right")
    return table


def _hours(steps: Sequence[Step]) -> float:
    return sum(step.hours for step in steps)


def _disk(steps: Sequence[Step]) -> float:
    return sum(step.disk_bytes for step in steps)


def duration_text(hours: float) -> str:
    """Days, hours, minutes or seconds, with two or three digits."""
    seconds = timedelta(hours=hours).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{_digits(seconds / length)} {unit}"
    return f"{_digits(seconds)} s"


def size_text(count: float) -> str:
    """Bytes in decimal units."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{_digits(count / length)} {unit}"
    return f"{_digits(count / 1e3)} kB" if count else "0"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
