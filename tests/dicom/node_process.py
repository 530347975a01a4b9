"""A node with a made-up model as a process of its own: SPOOL PEER_PORT; prints its port."""

import signal
import sys
from pathlib import Path

from clarity_cxr.dicom.node import Node, NodeModel
from clarity_cxr.dicom.peer import Peer
from clarity_cxr.dicom.spool import Spool
from tests.dicom.films import predict_with

spool, peer_port = sys.argv[1:]
model = NodeModel(predict_with("Mass"), lambda film: film.warnings, "ab" * 32)
node = Node(model, Spool(Path(spool), 16, "test", sends=True), "NODE", Peer("ARCHIVE", "127.0.0.1", int(peer_port)))
signal.signal(signal.SIGTERM, lambda *_: node.stop())
node.listen("127.0.0.1", 0)
print(node.port, flush=True)
node.run()
