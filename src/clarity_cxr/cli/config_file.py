"""Everything that is wrong with a config file, at once, before anything runs."""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser


def config_mistakes(path: Path, command: Callable[..., Any]) -> list[str]:
    """Compare a YAML file with the signature that it configures.

    Args:
        path: the file.
        command: its keyword-only parameters are the keys; dataclass parameters are sections.

    Returns:
        One line per mistake: unknown keys with the nearest known one, values of the wrong type with what was expected.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ["no such file"]
    except (OSError, UnicodeDecodeError) as error:
        return [f"cannot be read: {error}"]
    except yaml.YAMLError as error:
        return [f"not valid YAML: {error}"]
    if not isinstance(content, dict):
        return [f"expected keys and values, got {type(content).__name__}"]
    known = {p.name for p in inspect.signature(command).parameters.values() if p.kind is p.KEYWORD_ONLY}
    hints = {name: hint for name, hint in get_type_hints(command).items() if name in known}
    return list(_compare(content, hints, ""))


def _compare(content: dict[Any, Any], hints: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if key not in hints:
            nearest = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {prefix}{nearest[0]}?" if nearest else f"; known are {', '.join(sorted(hints))}"
            yield f"unknown key {name}{hint}"
        elif not dataclasses.is_dataclass(hints[key]):
            yield from _type_mistake(name, value, hints[key])
        elif isinstance(value, dict):
            yield from _compare(value, get_type_hints(hints[key]), f"{name}.")
        else:
            yield f"{name} is a section: expected keys and values, got {value!r}"


def _type_mistake(name: str, value: Any, annotation: Any) -> Iterator[str]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=annotation)
    try:
        parser.parse_object({"value": value})
    except ArgumentError:
        yield f"{name} is {value!r}, expected {plain_types(str(annotation))}"


def plain_types(text: str) -> str:
    """Types in a text as a reader would write them: `Path`, `float | null`, `platt | temperature`."""
    text = re.sub(r"<class '([\w.]+\.)?(\w+)'>", r"\2", text.replace("typing.", ""))
    text = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), text)
    text = re.sub(r"Optional\[(.*?)\]", r"\1 | null", text)
    return re.sub(r"Union\[(.*?)\]", lambda found: found[1].replace(", ", " | "), text).replace("NoneType", "null")
