"""CLARiTy: classification and weakly-supervised localization of chest X-ray findings."""

from typing import TYPE_CHECKING, Any

from clarity_cxr.version import __version__

__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from clarity_cxr.inference.predictor import load


def __getattr__(name: str) -> Any:
    if name == "load":
        from clarity_cxr.inference.predictor import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
