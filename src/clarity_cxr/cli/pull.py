"""`clarity pull`."""

from pathlib import Path


def pull(*, out: Path, repo: str | None = None, folder: Path | None = None, revision: str | None = None) -> None:
    """Fetch a shared checkpoint and its model card, and see that it is one.

    Args:
        out: folder for model.safetensors and README.md.
        repo: repository of the Hugging Face hub, OWNER/NAME.
        folder: local folder that `clarity push` wrote, instead of the hub.
        revision: branch, tag or commit of the repository.
    """
    from clarity_cxr.inference.sharing import Place
    from clarity_cxr.inference.sharing import pull as fetch

    print(f"Written to {fetch(Place(repo, folder), out, revision)}")
