"""What a machine is, in words and versions: what stands beside every measured number."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from clarity_cxr.data.workers import available_processors

PACKAGES = (
    "clarity-cxr",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "numpy",
    "pillow",
    "scipy",
    "pandas",
    "onnxruntime",
    "openvino",
)
"""Packages whose versions decide how fast something is."""


def describe_machine() -> dict[str, Any]:
    """System, Python, processor model, usable cores, memory, and accelerator if torch is loaded and sees one."""
    machine: dict[str, Any] = {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": available_processors(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            machine["accelerator"] = torch.cuda.get_device_name()
    return machine


def package_versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def memory_bytes() -> int:
    """Main memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
