"""`clarity plan`."""

from pathlib import Path


def plan(
    *,
    films: int | None = None,
    size: int = 224,
    epochs: int = 200,
    teacher_epochs: int = 100,
    devices: int = 1,
    processes: int | None = None,
    constants: Path = Path("runs/constants.json"),
) -> None:
    """Say how long every step will take, what it waits for, and the disk and memory that it needs.

    Follows from this machine's measured constants by the formulas in docs/planning.md.

    Args:
        films: films of the archive; without it, a table from 10 thousand to 10 million.
        size: side of the prepared films in pixels.
        epochs: of the student, and of the teacher's logits.
        teacher_epochs: of the teacher.
        devices: accelerators, or machines without one, that share the models' work.
        processes: processes that decode films (default: those of the measurement).
        constants: file written by `clarity bench`.
    """
    from rich.console import Console

    from clarity_cxr.planning.constants import read_constants
    from clarity_cxr.planning.plan import Archive
    from clarity_cxr.planning.plan import plan as make_plan
    from clarity_cxr.planning.tables import SIZES, WIDTH, archive_table, origin, step_table

    measured = read_constants(constants)
    numbers = SIZES if films is None else (films,)
    archives = [
        Archive(number, size, epochs, teacher_epochs, devices, processes or measured.processes) for number in numbers
    ]
    plans = {archive.films: make_plan(archive, measured) for archive in archives}
    console = Console(width=max(Console().width, WIDTH))
    first = archives[0]
    console.print(
        f"{size} px, {epochs} epochs, {devices} x {measured.device}, {first.processes} processes", highlight=False
    )
    console.print(origin(measured), highlight=False, soft_wrap=True)
    console.print(archive_table(plans) if films is None else step_table(plans[films]))
