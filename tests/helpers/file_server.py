"""A server of files on loopback, which can break off, lose and replace them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FileServer:
    """What the server has, which tests may change.

    Attributes:
        files: contents by path, such as "/a/b.pt".
        cuts: bytes that the next answers have at most, one number an answer; later answers are whole.
        with_etag: whether answers name the version of their file.
        asked: (path, Range header or None) of each request, in order.
        url: its address, without a slash at the end.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.with_etag = True
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""


@contextmanager
def running_file_server() -> Iterator[FileServer]:
    """The server, on a free port, until the block ends."""
    state = FileServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: FileServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.state.asked.append((path, self.headers.get("Range")))
        content = self.state.files.get(path)
        if content is None:
            return self.send_error(404)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found and self.headers.get("If-Range", etag) == etag:
            start = int(found[1])
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.state.with_etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.state.cuts.pop(0) if self.state.cuts else len(content)
        self.wfile.write(content[start : start + cut])
        return None
