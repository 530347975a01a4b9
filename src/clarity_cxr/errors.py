"""Errors that are the user's to mend: the command line prints their message and nothing else."""


class ClarityError(Exception):
    """Base of every error whose message names the file, row or key, what was expected, and what to do."""


class ConfigError(ClarityError):
    """A configuration or option is unknown, mistyped or contradicts another."""


class ReleaseError(ClarityError):
    """A release (folder of films, tables and lists) cannot be read as one."""


class FilmError(ClarityError):
    """One film's file cannot be decoded into a grey image."""


class StoreError(ClarityError):
    """A prepared store is missing, damaged, of another version, or not the one that was asked for."""


class CheckpointError(ClarityError):
    """A weights file is missing, unsafe, damaged or belongs to another model."""


class TrainingError(ClarityError):
    """A training run cannot start or go on."""


class LogitsError(ClarityError):
    """A store of a teacher's logits is missing, unfinished, damaged, or made for another run."""
