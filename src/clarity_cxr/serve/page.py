"""The viewer as one self-contained page, and the policy that keeps it from asking anyone but its own server."""

import base64
import hashlib
from importlib.resources import files

from clarity_cxr.serve.answers import NOTICE

_SCRIPTS = ("maps.js", "film.js", "gestures.js", "panel.js", "main.js")


def viewer_page() -> tuple[str, str]:
    """The page, and its Content-Security-Policy: only its own script runs, only its own server is asked."""
    folder = files("clarity_cxr.serve") / "viewer"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (folder / "style.css").read_text(encoding="utf-8")
    page = (folder / "index.html").read_text(encoding="utf-8")
    for mark, text in (("NOTICE", NOTICE), ("STYLE", style), ("SCRIPT", script)):
        page = page.replace(f"/*{mark}*/", text)
    policy = (
        f"default-src 'none'; script-src '{_source_hash(script)}'; style-src '{_source_hash(style)}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
