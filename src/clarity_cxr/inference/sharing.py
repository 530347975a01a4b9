"""Checkpoints shared with others, over the Hugging Face hub or by a folder: the weights and their model card."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, file_digest
from clarity_cxr.inference.model_card import WEIGHTS_FILE, model_card
from clarity_cxr.models import load_checkpoint, read_metadata

CARD_FILE = "README.md"
_HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError)


@dataclass(frozen=True)
class Place:
    """Where checkpoints are shared: exactly one of a hub repository and a local folder.

    Attributes:
        repo: repository of the Hugging Face hub, `owner/name`.
        folder: local folder.

    Raises:
        ClarityError: both or none are given.
    """

    repo: str | None
    folder: Path | None

    def __post_init__(self) -> None:
        if (self.repo is None) == (self.folder is None):
            raise ClarityError("give either --repo OWNER/NAME for the Hugging Face hub, or --folder DIR, not both")


def push(checkpoint: Path, place: Place, evaluation: Path | None, license_: str, private: bool) -> str:
    """Share a checkpoint and its model card.

    Args:
        checkpoint: a `.safetensors` file.
        place: where to.
        evaluation: its `evaluation.json`, for the card.
        license_: of the weights, as the hub spells it.
        private: make a new hub repository private.

    Returns:
        Where it is now: a folder or an address.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ClarityError: the evaluation is of other weights, or the place cannot be written to.
    """
    metadata = load_checkpoint(checkpoint).metadata
    digest = file_digest(checkpoint)
    card = model_card(metadata, digest, _read_evaluation(evaluation, digest), license_)
    if place.folder is not None:
        _write(checkpoint, card, place.folder)
        return str(place.folder)
    with tempfile.TemporaryDirectory() as bundle:
        _write(checkpoint, card, Path(bundle))
        return _upload(Path(bundle), str(place.repo), private)


def pull(place: Place, out: Path, revision: str | None) -> Path:
    """Fetch a shared checkpoint and its card into a folder.

    Args:
        place: where from.
        out: folder for `model.safetensors` and `README.md`.
        revision: branch, tag or commit of a hub repository; None is its main branch.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: what was shared is no CLARiTy checkpoint; nothing is written then.
        ClarityError: it cannot be fetched or written.
    """
    found = {name: _fetch(place, name, revision) for name in (WEIGHTS_FILE, CARD_FILE)}
    read_metadata(found[WEIGHTS_FILE])
    for name, source in found.items():
        _copy(source, out / name)
    return out / WEIGHTS_FILE


def _read_evaluation(path: Path | None, digest: str) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        evaluated = content["checkpoint"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClarityError(f"{path}: not an evaluation.json written by `clarity evaluate` ({error})") from error
    if evaluated != digest:
        raise ClarityError(
            f"{path}: the evaluation is of other weights ({evaluated[:12]}, these are {digest[:12]}); evaluate these"
        )
    return content


def _write(checkpoint: Path, card: str, folder: Path) -> None:
    _copy(checkpoint, folder / WEIGHTS_FILE)
    with atomic_path(folder / CARD_FILE) as temporary:
        temporary.write_text(card, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if target.exists() and source.samefile(target):
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _upload(bundle: Path, repo: str, private: bool) -> str:
    api = HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=bundle, commit_message="Checkpoint and model card")
    except _HUB_ERRORS as error:
        raise ClarityError(_hub_reason(repo, error, "log in with `hf auth login`, or use --folder")) from error
    return str(address)


def _fetch(place: Place, name: str, revision: str | None) -> Path:
    if place.folder is not None:
        path = place.folder / name
        if not path.is_file():
            raise ClarityError(f"{path}: no such file; expected a folder written by `clarity push --folder`")
        return path
    try:
        return Path(hf_hub_download(str(place.repo), name, revision=revision))
    except _HUB_ERRORS as error:
        advice = "check the name, log in with `hf auth login` if it is private, or use --folder"
        raise ClarityError(_hub_reason(str(place.repo), error, advice)) from error


def _hub_reason(repo: str, error: Exception, advice: str) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{repo}: the hub cannot be used ({lines[0]}); {advice}"
