"""A checkpoint as one ONNX file: from grey films of any size to calibrated probabilities, maps and heatmaps."""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clarity_cxr import __version__
from clarity_cxr.calibration import Calibration
from clarity_cxr.errors import ClarityError
from clarity_cxr.files import atomic_path, file_digest
from clarity_cxr.inference.engines import HEADER, INPUT, MAPS, OWN_PROBABILITIES
from clarity_cxr.inference.film_model import FilmModel
from clarity_cxr.inference.prediction import box_thresholds
from clarity_cxr.inference.resampling import lanczos_resize
from clarity_cxr.inference.runner import FORMAT_VERSION
from clarity_cxr.models import Checkpoint, CheckpointMetadata, load_checkpoint

Precision = Literal["float32", "int8"]
"""`int8`: the weights of the transformer's matrix products in 8 bits, their inputs quantised as they come."""

LARGEST_SIDE = 65_535
"""Rows and columns that an exported model takes at most, as a DICOM film has."""
_OPSET = 20
_EDGE = 1e-7
"""As in `clarity_cxr.calibration`: probabilities are kept this far from 0 and 1."""


class ExportedModel(nn.Module):
    """A checkpoint's model from films (B, H, W) uint8 of any one size to what `clarity export` puts out."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.film_model = FilmModel(checkpoint.model)
        self.size = checkpoint.metadata.image_size
        scale, offset = _platt(checkpoint.metadata.calibration, checkpoint.metadata.findings)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64))

    def forward(self, films: Tensor) -> tuple[Tensor, ...]:
        """Probabilities, those before calibration, heatmaps, attention, masks."""
        output = self.film_model(lanczos_resize(films, self.size))
        own = output.probabilities.double().clamp(_EDGE, 1 - _EDGE)
        calibrated = (self.scale * (own.log() - (-own).log1p()) + self.offset).sigmoid()
        return calibrated.float(), output.probabilities, output.heatmaps, output.attention, output.masks


def export_onnx(checkpoint: Path, out: Path, precision: Precision = "float32") -> None:
    """Write a checkpoint as ONNX, weights and metadata inside.

    The input `films` is (B, H, W) uint8, air dark and bone bright, B, H and W being free. The outputs are
    `probabilities` (calibrated) and `own_probabilities` (B, C), and the maps of `FilmOutput`. The metadata, JSON under
    `clarity_cxr`, holds findings, thresholds, calibration and what made the weights. `OnnxPredictor` runs it.

    Args:
        checkpoint: a `.safetensors` file.
        out: file to write.
        precision: of the transformer's weights.

    Raises:
        CheckpointError: the file is missing, unsafe, damaged, or of another finding set.
        ClarityError: the ONNX extra is missing, or the file cannot be written.
    """
    onnx = _onnx_package()
    loaded = load_checkpoint(checkpoint)
    model = _traced(ExportedModel(loaded).eval())
    entry = model.metadata_props.add()
    entry.key, entry.value = HEADER, json.dumps(_metadata(loaded.metadata, file_digest(checkpoint)))
    onnx.checker.check_model(model)
    if precision == "int8":
        model = _with_int8_weights(model)
    with atomic_path(out) as temporary:
        onnx.save(model, temporary)


def _with_int8_weights(model: Any) -> Any:
    """The model with each product of tokens and weights in int8, one scale for each output channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, prepared, quantised = (Path(folder) / f"{stage}.onnx" for stage in ("whole", "prepared", "quantised"))
        onnx.save(model, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        weights = {tensor.name for tensor in graph.initializer}
        others = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] not in weights]
        quantize_dynamic(
            prepared,
            quantised,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=others,
        )
        return onnx.load(quantised)


def _platt(calibration: Calibration | None, findings: tuple[str, ...]) -> tuple[list[float], list[float]]:
    """Scale and offset of each finding's logit; 1 and 0 without a calibration."""
    if calibration is None:
        return [1.0] * len(findings), [0.0] * len(findings)
    return [calibration.scale[name] for name in findings], [calibration.offset[name] for name in findings]


def _traced(model: ExportedModel) -> Any:
    """The model as an ONNX `ModelProto`, traced with batch, height and width free."""
    films = torch.zeros((2, 2 * model.size + 3, 2 * model.size + 5), dtype=torch.uint8)
    free = (torch.export.Dim("films"), *(torch.export.Dim(side, max=LARGEST_SIDE) for side in ("height", "width")))
    with _quiet():
        program = torch.onnx.export(
            model,
            (films,),
            input_names=[INPUT],
            output_names=["probabilities", OWN_PROBABILITIES, *MAPS],
            dynamic_shapes=(free,),
            opset_version=_OPSET,
            dynamo=True,
        )
    assert program is not None
    return program.model_proto


def _metadata(metadata: CheckpointMetadata, digest: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "findings": list(metadata.findings),
        "image_size": metadata.image_size,
        "thresholds": box_thresholds(metadata.findings, metadata.thresholds),
        "calibration": None if metadata.calibration is None else metadata.calibration.to_dict(),
        "checkpoint_sha256": digest,
        "config": metadata.config.to_dict(),
        "provenance": metadata.provenance,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and its deprecation notes to itself."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _onnx_package() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401 (quantises)
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise ClarityError('exporting needs further packages: pip install "clarity-cxr[onnx]"') from None
    return onnx
