"""A web server of this machine with the faults that real ones have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """Files by name, and how they are served."""

    files: dict[str, bytes]
    ranges: bool = True
    etags: bool = True
    drops_after: int | None = None
    """Bytes after which an answer ends with its connection, if it has more."""
    num_drops: int = 1_000
    """Answers that end so; all later ones are whole."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and range of each GET."""
    url: str = ""
    sent: int = 0


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(web))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def handler_of(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            web.requests.append((self.path, self.headers.get("Range", "")))
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            data = web.files.get(self.path.partition("?")[0])
            if data is None:
                self.send_error(404)
                return
            start, stop, asked = 0, len(data), self.headers.get("Range")
            if asked and web.ranges:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start = int(first)
                stop = min(int(last) + 1, len(data)) if last else len(data)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{stop}")
            else:
                self.send_response(200)
            if web.etags:
                self.send_header("ETag", f'"{hash(data)}"')
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            if with_body:
                self.send(data[start:stop])

        def send(self, body: bytes) -> None:
            cut = web.drops_after
            if cut is not None and len(body) > cut and web.num_drops > 0:
                web.num_drops -= 1
                body = body[:cut]
                self.close_connection = True
            self.wfile.write(body)
            web.sent += len(body)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    return Handler
