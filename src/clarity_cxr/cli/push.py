"""`clarity push`."""

from pathlib import Path


def push(
    *,
    checkpoint: Path,
    repo: str | None = None,
    folder: Path | None = None,
    evaluation: Path | None = None,
    license: str = "other",  # the word that the option needs
    private: bool = False,
) -> None:
    """Share a checkpoint with a model card made from its own header and evaluation.

    The Hugging Face hub is used with the login of `hf auth login`. A folder needs no network.

    Args:
        checkpoint: weights written by `clarity train` (.safetensors).
        repo: repository of the Hugging Face hub, OWNER/NAME; made if need be.
        folder: local folder, instead of the hub.
        evaluation: evaluation.json of these weights, whose figures the card shows.
        license: licence of the weights, as the hub spells it, e.g. apache-2.0.
        private: make a new repository private.
    """
    from clarity_cxr.inference.sharing import Place
    from clarity_cxr.inference.sharing import push as share

    print(f"Shared: {share(checkpoint, Place(repo, folder), evaluation, license, private)}")
