"""The CLARiTy models: architecture, registry, starting weights and checkpoints."""

from clarity_cxr.models.checkpoints import (
    Checkpoint,
    CheckpointMetadata,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
)
from clarity_cxr.models.clarity import Clarity, ClarityOutput
from clarity_cxr.models.config import ModelConfig, ModelOptions
from clarity_cxr.models.registry import create_model, list_models

__all__ = [
    "Checkpoint",
    "CheckpointMetadata",
    "Clarity",
    "ClarityOutput",
    "ModelConfig",
    "ModelOptions",
    "create_model",
    "list_models",
    "load_checkpoint",
    "read_metadata",
    "save_checkpoint",
]
