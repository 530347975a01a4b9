"""Programs that run an exported model on the CPU: ONNX Runtime and OpenVINO. No torch."""

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from clarity_cxr.errors import CheckpointError, ClarityError

ExportBackend = Literal["onnxruntime", "openvino", "openvino-bfloat16"]
TorchBackend = Literal["torch", "torch-bfloat16"]
Backend = TorchBackend | ExportBackend
"""What computes: torch runs checkpoints, the others exports. bfloat16 changes probabilities in the third digit
and moves the edges of boxes."""

HEADER = "clarity_cxr"
"""Key of an exported model's metadata."""
INPUT = "films"
"""Name of an exported model's input, (B, H, W) uint8."""
OWN_PROBABILITIES = "own_probabilities"
"""Output (B, C): the model's probabilities before calibration; `probabilities` are those after it."""
MAPS = ("heatmaps", "attention", "masks")
"""Outputs (B, C, S, S), (B, C, N, N) and (B, C, N, N), as of `FilmOutput`."""
OUTPUTS = (OWN_PROBABILITIES, *MAPS)

_FILMS_OF_A_STREAM = 2
"""In one forward pass: enough for matrix products at full speed, few enough to stay in the cache."""


class Engine(Protocol):
    """An exported model, ready to run.

    Attributes:
        header: the JSON of its metadata, or None if it has none.
    """

    header: str | None

    def run(self, films: np.ndarray) -> list[np.ndarray]:
        """The arrays of `OUTPUTS` for films (B, H, W) uint8."""
        ...


def open_engine(path: Path, backend: ExportBackend, threads: int | None, streams: int = 1) -> Engine:
    """Open an exported model.

    Args:
        path: an ONNX file.
        backend: what runs it.
        threads: all threads of a call of `run`; None is one per core.
        streams: forward passes at once in one call of `run`, which share out its films and threads. One answers a
            single film soonest; one per thread gets through many films soonest. ONNX Runtime has one, whatever this is.

    Raises:
        CheckpointError: the file is missing or not ONNX.
        ClarityError: the backend's package is missing.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model; expected a file written by `clarity export`")
    kind, extra = (_OnnxRuntime, "onnx") if backend == "onnxruntime" else (_OpenVino, "openvino")
    try:
        return kind(path, threads, backend, streams)
    except ImportError:
        raise ClarityError(f'--backend {backend} needs a further package: pip install "clarity-cxr[{extra}]"') from None
    except Exception as error:  # both raise classes of their own that they do not export
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: not a usable ONNX model ({reason}); export it again") from error


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int | None, backend: ExportBackend, streams: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.header: str | None = self._session.get_modelmeta().custom_metadata_map.get(HEADER)

    def run(self, films: np.ndarray) -> list[np.ndarray]:
        return self._session.run(list(OUTPUTS), {INPUT: films})  # pyright: ignore[reportReturnType]


class _OpenVino:
    """Films are resized beforehand: OpenVINO would compute the resize in the graph in float32 and move grey levels."""

    def __init__(self, path: Path, threads: int | None, backend: ExportBackend, streams: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        known = ["framework", HEADER]
        self.header: str | None = str(model.get_rt_info(known).value) if model.has_rt_info(known) else None
        precision = "bf16" if backend == "openvino-bfloat16" else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": streams}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if self.header is not None:
            self._side = model.output(MAPS[0]).get_partial_shape()[2].get_length()
            model.reshape({INPUT: [-1, self._side, self._side]})
            outputs = [model.output(name) for name in OUTPUTS]
            self._of_a_film = [(out.partial_shape[1:].to_shape(), out.element_type.to_dtype()) for out in outputs]
        self._model = core.compile_model(model, "CPU", settings)
        self._streams = streams

    def run(self, films: np.ndarray) -> list[np.ndarray]:
        from openvino import AsyncInferQueue, Tensor

        from clarity_cxr.data.images import resize_film  # needs Pillow

        resized = np.stack([resize_film(film, self._side) for film in films])
        outputs = [np.empty((len(films), *shape), kind) for shape, kind in self._of_a_film]
        requests = AsyncInferQueue(self._model, self._streams)  # of this call alone: a service runs several at once
        at_once = len(films) if self._streams == 1 else _FILMS_OF_A_STREAM
        for first in range(0, len(films), at_once):
            some = slice(first, first + at_once)
            request = requests[requests.get_idle_request_id()]
            for name, output in zip(OUTPUTS, outputs, strict=True):
                request.set_tensor(name, Tensor(output[some], shared_memory=True))
            requests.start_async({INPUT: resized[some]})
        requests.wait_all()
        return outputs
