"""The plan of a study: a shared config, variants of it, seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clarity_cxr.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        config: training config that all runs share.
        seeds: of each variant.
        variants: name, as in the table -> configs laid over the shared one, in order; the first is compared with.
        sweep: values of q to train beside the first variant's own, all of them scored at every p (Figures 10, 11).
        distill: folder of a teacher's logits, `{seed}` in it replaced; None trains on labels.
    """

    config: Path
    seeds: tuple[int, ...]
    variants: dict[str, tuple[Path, ...]]
    sweep: tuple[int, ...] | None = None
    distill: str | None = None


def read_plan(path: Path) -> Plan:
    """Read a plan; its paths of configs are relative to its own folder, that of the logits to the working folder.

    Raises:
        ConfigError: names every mistake in the file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected the keys config, seeds and variants")
    mistakes = [f"{key}: {problem}" for key, problem in _mistakes(content).items() if problem]
    if mistakes:
        raise ConfigError("\n  ".join([f"{path}: mistakes in the plan:", *mistakes]))
    variants = {name: tuple(path.parent / each for each in _list(files)) for name, files in content["variants"].items()}
    plan = Plan(
        path.parent / content["config"],
        tuple(content["seeds"]),
        variants,
        None if content.get("sweep") is None else tuple(content["sweep"]),
        content.get("distill"),
    )
    absent = [str(file) for files in ((plan.config,), *variants.values()) for file in files if not file.is_file()]
    if absent:
        raise ConfigError(f"{path}: no such config: {', '.join(absent)}; paths are relative to the plan's folder")
    return plan


def _mistakes(content: dict[Any, Any]) -> dict[str, str]:
    """Key -> what is wrong with it, or nothing."""
    checks = {
        "config": (lambda value: isinstance(value, str), "expected the path of a training config"),
        "seeds": (_whole_numbers, "expected a list of different whole numbers"),
        "variants": (_named_configs, "expected names, each with one path of a config, a list of them, or []"),
        "sweep": (lambda value: value is None or _whole_numbers(value), "expected a list of different values of q"),
        "distill": (lambda value: value is None or isinstance(value, str), "expected a path, {seed} in it if need be"),
    }
    mistakes = {str(key): f"unknown; known are {', '.join(checks)}" for key in content if key not in checks}
    return mistakes | {key: "" if right(content.get(key)) else text for key, (right, text) in checks.items()}


def _whole_numbers(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(type(n) is int for n in value) and len({*value}) == len(value)
    )


def _named_configs(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return all(
        isinstance(name, str) and all(isinstance(file, str) for file in _list(files)) for name, files in value.items()
    )


def _list(files: Any) -> list[Any]:
    return files if isinstance(files, list) else [files]
