"""A program that takes notifications of webhooks, for tests."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[int], tuple[int, float]]
"""(status, seconds before it) of the n-th request, from 0 on."""


@dataclass(slots=True)
class Received:
    path: str
    request_id: str
    headers: dict[str, str]
    body: Any

    @property
    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["events"]
        return found


@dataclass(slots=True)
class Receiver:
    """`url`: where it listens. `received`: everything that came, answered or not."""

    url: str
    answer: Answer
    received: list[Received] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, got: Received) -> tuple[int, float]:
        with self.lock:
            self.received.append(got)
            return self.answer(len(self.received) - 1)

    def actions(self) -> list[str]:
        return [event["action"] for got in self.received for event in got.events]


def answers(statuses: Sequence[int]) -> Answer:
    """These statuses in turn, then 204."""
    return lambda n: (statuses[n] if n < len(statuses) else 204, 0.0)


@contextmanager
def receiving(answer: Answer = lambda _: (204, 0.0)) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = urlsplit(self.path)
            request_id = parse_qs(parts.query)["requestId"][-1]
            headers = dict(self.headers)
            status, seconds = receiver.take(
                Received(parts.path, request_id, headers, json.loads(body))
            )
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The emulator does not wait for a late answer."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
