"""The `clarity` command: finds the subcommand, parses its options from its signature, prints the user's errors."""

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from clarity_cxr import __version__
from clarity_cxr.cli.config_file import config_mistakes, plain_types
from clarity_cxr.errors import ClarityError, ConfigError

COMMANDS = {
    "phantom": "Draw a synthetic release to try everything on.",
    "check": "Look for whatever is wrong with a release.",
    "prepare": "Pack a release into a store of small grey films.",
    "anatomy": "Make anatomical priors for a release or a store.",
    "train": "Train a CLARiTy, or a teacher, on a store.",
    "distill dump": "Compute a teacher's logits for every film and epoch.",
    "distill verify": "Check a store of logits, and repair it.",
    "distill info": "What a store of logits was made of, and what is there.",
    "distill show": "Draw the film behind a stored row of logits.",
    "calibrate": "Fit probabilities and operating points on validation films.",
    "evaluate": "Score a checkpoint on a store: what and where.",
    "explain": "Check whether a checkpoint's maps explain what it predicts.",
    "predict": "Findings, boxes and overlays for films.",
    "node": "Receive films from a PACS, send results back.",
    "gallery": "Draw masks, attention, heatmaps and boxes of a store's films.",
    "ablate": "Train and score variants of a config over seeds.",
    "tune": "Search the loss weights with Optuna.",
    "bench": "Measure what this machine does in a second, for `plan`.",
    "plan": "Say what a run will take: disk, memory, hours.",
    "report": "Make one page out of a run: table, curves, gallery.",
    "export": "Write a checkpoint as one ONNX file.",
    "serve": "Answer films over HTTP, with a viewer.",
    "push": "Share a checkpoint with its model card.",
    "pull": "Fetch a shared checkpoint.",
    "anatomy-sheet": "Draw the outlined anatomy of a store's films.",
    "anatomy-train": "Train or cross-validate the built-in anatomy segmenter.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0 success, 1 a negative answer, 2 a mistake of the user's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"clarity-cxr {__version__}")
        return 0
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, options = " ".join(words[:length]), words[length:]
    if name not in COMMANDS:
        print(f"clarity: unknown command {name!r}; commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = find_command(name)
    try:
        return _run(name, command, options)
    except ClarityError as error:
        print(f"clarity {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"clarity {name}: interrupted; give the same command again", file=sys.stderr)
        return 130


def find_command(name: str) -> Callable[..., int | None]:
    """The function behind a command: of its own name in a module of its first word's name."""
    module = importlib.import_module(f"clarity_cxr.cli.{name.split()[0].replace('-', '_')}")
    return getattr(module, name.split()[-1].replace("-", "_"))


def _run(name: str, command: Callable[..., int | None], options: list[str]) -> int:
    parser, positionals = build_parser(name, command)
    options = _normalise(options, get_type_hints(command))
    _check_config_files(parser, command, options)
    values: dict[str, Any] = parser.instantiate(parser.parse_args(options)).as_dict()
    values.pop("config", None)
    leading = [values.pop(positional) for positional in positionals]
    return command(*leading, **values) or 0


class _CommandHelp(DefaultHelpFormatter):
    """Names types in plain words."""

    def _expand_help(self, action: Any) -> str:
        return plain_types(super()._expand_help(action))


class _CommandParser(ArgumentParser):
    """Shows options as they are usually typed: --batch-size, --strict; a mistake is one error, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(f"{plain_types(message)} (`{self.prog} --help` lists the options)") from ex

    def format_help(self, *args: Any, **options: Any) -> str:
        text = super().format_help(*args, **options)
        return re.sub(r"--[a-z_.]+", lambda option: option.group().replace("_", "-"), text)


def _normalise(options: list[str], hints: dict[str, Any]) -> list[str]:
    """Words as jsonargparse takes them: `--batch-size 8` as `--batch_size 8`, `--strict` as `--strict=true`."""
    words = []
    for word, following in itertools.zip_longest(options, options[1:], fillvalue=""):
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if hints.get(name) is bool and not equals and following not in ("true", "false"):
            equals, value = "=", "true"
        words.append(f"--{name}{equals}{value}")
    return words


def build_parser(name: str, command: Callable[..., int | None]) -> tuple[ArgumentParser, list[str]]:
    """A parser from a signature: positional-only parameters become positionals, keyword-only ones options.

    Returns:
        The parser, and the names of the positionals in order.
    """
    description = inspect.getdoc(command) or ""
    summary = description.split("\n\nArgs:")[0]
    parser = _CommandParser(prog=f"clarity {name}", description=summary, formatter_class=_CommandHelp)
    parameters = inspect.signature(command).parameters.values()
    hints = get_type_hints(command)
    positionals = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    for positional in positionals:
        annotation = hints[positional]
        several = annotation == list[Path]
        parser.add_argument(
            positional,
            type=get_args(annotation)[0] if several else annotation,
            nargs="+" if several else None,
            help=_argument_help(description, positional),
        )
    if any(hasattr(hints[p.name], "__dataclass_fields__") for p in parameters):
        parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    parser.add_function_arguments(command, as_group=False, skip=set(positionals), fail_untyped=True)
    return parser, positionals


def _check_config_files(parser: ArgumentParser, command: Callable[..., Any], options: list[str]) -> None:
    files = [options[i + 1] for i, word in enumerate(options[:-1]) if word == "--config"]
    files += [word.split("=", 1)[1] for word in options if word.startswith("--config=")]
    mistakes = [f"{file}: {mistake}" for file in files for mistake in config_mistakes(Path(file), command)]
    if mistakes:
        raise ConfigError("\n  ".join(["mistakes in the configuration:", *mistakes]))


def _argument_help(docstring: str, name: str) -> str:
    lines = docstring.split("Args:\n", 1)[-1].splitlines()
    text: list[str] = []
    for line in lines:
        if line.startswith(f"    {name}:"):
            text.append(line.split(":", 1)[1].strip())
        elif text and line.startswith(" " * 8):
            text.append(line.strip())
        elif text:
            break
    return " ".join(text)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: clarity COMMAND [options]     (clarity COMMAND --help for its options)",
            "",
            "CLARiTy: what a chest film shows and where, learned from image labels alone. Research use only.",
            "",
            "commands, in the order of a first run:",
            *lines,
            "",
            "exit codes: 0 done; 1 the answer is no, or films failed; 2 what was given cannot be used; 130 interrupted",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
