"""Takes what notifications are sent to, over HTTP."""

import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_SECONDS = 60.0


class Receiver:
    """A server of Apprise's ``json://``; `answers` are the statuses of the first requests, 200
    those of all others. It answers nothing before `let_go` where it `hangs`."""

    def __init__(self, answers: tuple[int, ...] = (), *, hangs: bool = False) -> None:
        self.received: list[dict[str, Any]] = []
        self.let_go = threading.Event()
        if not hangs:
            self.let_go.set()
        self._left = list(answers)
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(json.loads(body))
                receiver.let_go.wait(PATIENCE_SECONDS)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        serve = partial(self._server.serve_forever, 0.02)
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"json://user:hush-hush@127.0.0.1:{self._server.server_port}/hush-path"

    @property
    def texts(self) -> list[str]:
        return [one["message"] for one in self.received]

    def wait_for(self, is_there: Callable[[], bool]) -> None:
        with self._came:
            assert self._came.wait_for(is_there, PATIENCE_SECONDS), self.received

    def wait(self, count: int = 1) -> list[str]:
        """The texts, once so many messages have come."""
        self.wait_for(lambda: len(self.received) >= count)
        return self.texts

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_SECONDS)

    def _take(self, message: dict[str, Any]) -> int:
        with self._came:
            self.received.append(message)
            self._came.notify_all()
            return self._left.pop(0) if self._left else 200
