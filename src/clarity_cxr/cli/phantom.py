"""`clarity phantom`: draw a release of synthetic chest films."""

from pathlib import Path


def phantom(
    *,
    out: Path,
    films: int = 4000,
    size: int = 128,
    seed: int = 0,
    rarity: float = 0.3,
    boxed_share: float = 1.0,
    spurious_finding: str | None = None,
    spurious_strength: float = 0.9,
    processes: int = 1,
) -> None:
    """Draw synthetic frontal chest films with all 14 findings, in the layout of the NIH release.

    The folder gets PNG films, both tables, both lists, boxes in the 1024 frame and exact priors. The bytes depend on
    the other options only, not on the number of processes. A folder that holds this very release is kept as it is.

    Args:
        out: folder to make.
        films: number of films; patients have one to 25 of them.
        size: side of the films in pixels, 64 to 1024.
        seed: another seed gives other patients.
        rarity: 1 gives the frequencies of the NIH release, 0 makes all findings equally common.
        boxed_share: share of the test films' boxed findings that are listed in the box table.
        spurious_finding: finding whose films tend to carry a bright corner marker, to study shortcuts.
        spurious_strength: probability of that marker with the finding; without it, one minus this.
        processes: worker processes.
    """
    from clarity_cxr.data.phantom import PhantomConfig, write_release

    config = PhantomConfig(films, size, seed, rarity, boxed_share, spurious_finding, spurious_strength)
    write_release(out, config, processes)
    print(f"{config.films} films of {config.size} x {config.size} pixels in {out}")
