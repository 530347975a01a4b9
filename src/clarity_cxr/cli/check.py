"""`clarity check`: is this folder a sound release, or this table a sound manifest?"""

from pathlib import Path


def check(
    release: Path,
    /,
    *,
    images: Path | None = None,
    boxes: Path | None = None,
    findings_map: str | None = None,
    fast: bool = False,
    strict: bool = False,
    skip_missing: bool = False,
    processes: int | None = None,
) -> int:
    """Check films and tables and print every problem, with the films per split and finding; exit code 1 if it fails.

    Args:
        release: folder in the NIH ChestX-ray14 layout, or a manifest CSV with one row per film.
        images: folder that the manifest's paths start from (default: the manifest's).
        boxes: CSV of boxes of the manifest's films, in pixels of their files.
        findings_map: how the manifest names things: chexpert, mimic, padchest, vindr or a YAML file.
        fast: read only the films' headers: neither decode every film nor ask whether it is a chest film.
        strict: fail if a film is not a whole upright frontal chest film; else this is a warning.
        skip_missing: let rows without a film and films without a row pass, as `prepare --skip-missing` does.
        processes: worker processes (default: one per processor).
    """
    from rich.console import Console

    from clarity_cxr.data.check import check_release, print_report
    from clarity_cxr.data.manifest import data_set

    source = data_set(release, images, boxes, findings_map)
    report = check_release(source, fast=fast, skip_missing=skip_missing, processes=processes)
    if not fast:
        from clarity_cxr.anatomy.film_check import film_problems

        report.problems.extend(film_problems(report.root, report.paths, "error" if strict else "warning"))
    print_report(report, Console())
    return 0 if report.passed else 1
