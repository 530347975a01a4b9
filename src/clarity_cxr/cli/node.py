"""`clarity node`."""

from pathlib import Path

from clarity_cxr.calibration import OperatingPoint


def node(
    *,
    port: int,
    checkpoint: Path,
    reply_to: str | None = None,
    spool: Path = Path("clarity-spool"),
    ae_title: str = "CLARITY",
    host: str = "127.0.0.1",
    capacity: int = 64,
    device: str = "cpu",
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    strict: bool = False,
) -> int:
    """Receive films by DICOM C-STORE, predict them, and send report, segmentations and overlay back.

    Films are on the disk before they are acknowledged: after a kill the same command goes on where it stopped. On
    SIGTERM or Ctrl-C the node takes no further films, finishes those it holds and ends.

    Args:
        port: where to listen.
        checkpoint: weights written by `clarity train` (.safetensors), or a model written by `clarity export` (.onnx).
        reply_to: where results go, as TITLE@HOST:PORT; without it they stay in the spool's `results`.
        spool: folder for films that are held and results that are not sent yet; one per node.
        ae_title: the node's own application entity title.
        host: address to listen on; 0.0.0.0 is every one of this machine.
        capacity: films held at most; further ones are refused until there is room.
        device: where the model runs: cpu, cuda, cuda:1, mps.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive.
        operating_point: decide at an operating point that `clarity calibrate` stored instead: half, youden, sensitive.
        strict: set films aside that may not be whole upright frontal chest films.
    """
    import json
    import logging
    import signal

    from clarity_cxr.anatomy.film_check import check_any_size
    from clarity_cxr.dicom.node import Node, NodeModel
    from clarity_cxr.dicom.peer import Peer
    from clarity_cxr.dicom.spool import Spool
    from clarity_cxr.files import file_digest
    from clarity_cxr.inference.loading import load_predictor

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("clarity_cxr").setLevel(logging.INFO)
    peer = None if reply_to is None else Peer.parse(reply_to)
    predictor = load_predictor(checkpoint, device, decision_threshold, operating_point)
    digest = file_digest(checkpoint)
    predicted_by = json.dumps([digest, predictor.rule.to_dict()])
    model = NodeModel(
        predictor.predict, lambda film: [*film.warnings, *check_any_size([film.pixels])[0].reasons], digest, strict
    )
    running = Node(model, Spool(spool, capacity, predicted_by, peer is not None), ae_title, peer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    running.listen(host, port)
    running.run()
    return 0
