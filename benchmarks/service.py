"""The service under load on this machine: 200 requests, 8 at a time, good and bad; uploads that must be refused early.

    python benchmarks/service.py --checkpoint F [--requests 200] [--at-once 8]

Starts `clarity serve` on a free loopback port. One request in five is bad in one of four ways; a good one must be
answered with 200 and probabilities, a bad one with its own status. Memory is the service's resident set after a warm-up
of 20 requests and at the end. Then an upload that announces 300 MB, one of 300 MB that announces nothing, a PNG of
60,000 x 60,000 pixels and a zip archive of zeros; the bytes sent before the answer came are counted.
"""

import argparse
import http.client
import io
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from record import record

MEGABYTE = 1 << 20
HUGE = 300 * MEGABYTE


def main() -> None:
    """Measure and write `runs/benchmarks/service.json`."""
    options = arguments()
    with service(options.checkpoint) as (port, process):
        load_rows = under_load(port, process, options.requests, options.at_once)
        rows = load_rows + refusals(port)
    record("service", rows, requests=options.requests, at_once=options.at_once)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    return parser.parse_args()


@contextmanager
def service(checkpoint: Path) -> Iterator[tuple[int, int]]:
    """A running service: its port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clarity_cxr.cli.main", "serve", "--checkpoint", str(checkpoint)]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_healthy(port, process)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return once /health answers, for at most two minutes."""
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit("the service did not start")
        try:
            if ask(port, b"", "/health", "GET")[0] == 200:
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the service did not become healthy")


def ask(port: int, body: bytes, path: str = "/v1/predict", method: str = "POST") -> tuple[int, bytes, float]:
    """Status, answer and seconds of one request."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read(), time.perf_counter() - begin
    finally:
        connection.close()


def under_load(port: int, process: int, requests: int, at_once: int) -> list[dict[str, object]]:
    """Good and bad films mixed."""
    generator = np.random.default_rng(0)
    good = [encoded(generator.integers(0, 256, (1024, 1024), dtype=np.uint8), kind) for kind in ("PNG", "JPEG")]
    bad = [(b"", 422), (b"PK\x03\x04" + bytes(1000), 415), (good[0][:5000], 422), (bomb(), 422)]
    work = [bad[k // 5 % 4] if k % 5 == 4 else (good[k % 2], 200) for k in range(requests)]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda item: ask(port, item[0]), work[:20]))
        before = resident_megabytes(process)
        begin = time.perf_counter()
        answers = list(pool.map(lambda item: ask(port, item[0]), work))
        seconds = time.perf_counter() - begin
    wrong = [status for (status, _, _), (_, expected) in zip(answers, work, strict=True) if status != expected]
    taken = sorted(took for (_, _, took), (_, expected) in zip(answers, work, strict=True) if expected == 200)
    assert all(json.loads(said)["probabilities"] for status, said, _ in answers if status == 200)
    return [
        {"what": "requests, one in five bad", "value": requests},
        {"what": "answers with another status than expected", "value": len(wrong)},
        {"what": "requests per second", "value": round(requests / seconds, 2)},
        {"what": "good films: median seconds", "value": round(statistics.median(taken), 3)},
        {"what": "good films: p95 seconds", "value": round(taken[int(0.95 * (len(taken) - 1))], 3)},
        {"what": "memory after warm-up, MB", "value": round(before, 1)},
        {"what": "memory at the end, MB", "value": round(resident_megabytes(process), 1)},
    ]


def refusals(port: int) -> list[dict[str, object]]:
    """What must be refused, and how much of it was taken first."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros", bytes(64 * MEGABYTE))
    rows = []
    for name, announced in (("300 MB, announced", True), ("300 MB, not announced", False)):
        status, sent, seconds = flood(port, announced)
        rows.append({"what": f"{name}: status", "value": status, "MB sent": round(sent / MEGABYTE, 1)})
        rows[-1]["seconds"] = round(seconds, 3)
    for name, body in (
        ("PNG of 60,000 x 60,000 pixels", bomb()),
        ("zip archive of 64 MB of zeros", archive.getvalue()),
    ):
        status, _, seconds = ask(port, body)
        rows.append({"what": f"{name}: status", "value": status, "seconds": round(seconds, 3)})
    return rows


def flood(port: int, announced: bool) -> tuple[int, int, float]:
    """Send 300 MB until an answer comes: its status, the bytes sent by then, and the seconds."""
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        length = f"Content-Length: {HUGE}" if announced else "Transfer-Encoding: chunked"
        connection.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())
        block = bytes(MEGABYTE)
        framed = block if announced else b"%x\r\n" % len(block) + block + b"\r\n"
        sent = 0
        while sent < HUGE and not answered(connection):
            try:
                connection.sendall(framed)
            except OSError:
                break
            sent += len(block)
        answer = connection.recv(4096)
    return int(answer.split(b" ")[1]), sent, time.perf_counter() - begin


def answered(connection: socket.socket) -> bool:
    """Whether the service has said something."""
    connection.settimeout(0.02)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        connection.settimeout(60)


def encoded(film: np.ndarray, kind: str) -> bytes:
    """A film as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, format=kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A small PNG that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(MEGABYTE))) + chunk(b"IEND", b"")


def resident_megabytes(process: int) -> float:
    """The process's resident set."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


if __name__ == "__main__":
    main()
