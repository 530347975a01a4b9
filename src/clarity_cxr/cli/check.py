"""`clarity check`: is this folder a sound release?"""

from pathlib import Path


def check(
    release: Path,
    /,
    *,
    fast: bool = False,
    strict: bool = False,
    skip_missing: bool = False,
    processes: int | None = None,
) -> int:
    """Check a release and print every problem, with the films per split and finding; exit code 1 if it fails.

    Args:
        release: Folder in the NIH ChestX-ray14 layout.
        fast: Read only the films' headers: neither decode every film nor ask whether it is a chest film.
        strict: Fail if a film is not a whole upright frontal chest film; else this is a warning.
        skip_missing: Let rows without a film and films without a row pass, as `prepare --skip-missing` does.
        processes: Worker processes (default: one per processor).
    """
    from rich.console import Console

    from clarity_cxr.anatomy.film_check import film_problems
    from clarity_cxr.data.check import check_release, print_report

    report = check_release(release, fast=fast, skip_missing=skip_missing, processes=processes)
    if not fast:
        report.problems.extend(film_problems(release, report.paths, "error" if strict else "warning"))
    print_report(report, Console())
    return 0 if report.passed else 1
