"""A proxy before several servers, to each of which it passes a request in turn."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 120.0


class Balanced:
    """`begun` and `answered`: requests that were passed on, and those that a server has answered,
    whether or not the caller waited for that."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._hosts = [urlsplit(url).netloc for url in urls]
        self._lock = threading.Lock()
        self.url = ""
        self.begun = 0
        self.answered = 0

    def next_host(self) -> str:
        with self._lock:
            self.begun += 1
            return self._hosts[(self.begun - 1) % len(self._hosts)]

    def note_answer(self) -> None:
        with self._lock:
            self.answered += 1


@contextmanager
def balanced_over(*urls: str) -> Iterator[Balanced]:
    balanced = Balanced(urls)

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            connection = HTTPConnection(balanced.next_host(), timeout=_PATIENCE_SECONDS)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            balanced.note_answer()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get_content_type())
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The caller does not wait for a late answer."""

    server = Server(("127.0.0.1", 0), Handler)
    balanced.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield balanced
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
