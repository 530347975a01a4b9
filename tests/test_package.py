"""What the package promises as a whole: which installs suffice, and one version everywhere."""

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from clarity_cxr import __version__

ROOT = Path(__file__).parents[1]
CORE = (
    "anatomy.store_priors",
    "data.phantom",
    "data.prepare",
    "distill.dump",
    "evaluation.evaluate",
    "inference.predictor",
    "losses",
    "models",
    "training.train",
)
OPTIONAL = (
    *("fastapi", "highdicom", "jsonargparse", "onnx", "onnxruntime", "openvino", "optuna", "pycocotools", "pydicom"),
    *("pynetdicom", "pytorch_grad_cam", "ray", "torchxrayvision", "uvicorn"),
)


def test_training_needs_neither_the_command_line_nor_any_extra() -> None:
    """Imported where the optional packages cannot be; the package's own name loads nothing."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL}))
import clarity_cxr
assert not {{"torch", "numpy", "pandas"}} & sys.modules.keys()
for name in {CORE}:
    __import__(f"clarity_cxr.{{name}}")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_one_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as handle:
        assert tomllib.load(handle)["project"]["version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"\n## {__version__} " in (ROOT / "CHANGELOG.md").read_text()
