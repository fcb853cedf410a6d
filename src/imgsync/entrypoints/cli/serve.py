"""imgsync serve: the pages, the HTTP API, the worker and the schedule, in one process."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from imgsync.entrypoints.cli.logs import tell_of_copies
from imgsync.entrypoints.cli.notifications import check_notifications
from imgsync.entrypoints.cli.output import asked_secret, say
from imgsync.entrypoints.cli.parts import HEARD_SECONDS, Part, WorkerPart, run_side_by_side
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    CommandError,
    pass_container,
    run_async,
)
from imgsync.entrypoints.cli.signals import STOPPING, stopped_by_signals
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.serve")
_NEEDS = (
    "argon2",
    "babel",
    "itsdangerous",
    "jinja2",
    "jwt",
    "prometheus_client",
    "python_multipart",
    "starlette",
    "uvicorn",
)


@click.command(epilog=STATUSES)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; one that other machines reach needs a password.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8425,
    show_default=True,
    help="Port to listen on; 0 for one that is free.",
)
@click.option("--no-worker", is_flag=True, help="Run no tasks: 'imgsync worker' does.")
@click.option("--no-schedule", is_flag=True, help="Survey nothing by itself.")
@pass_container
def serve(
    container: "Container", host: str, port: int, no_worker: bool, no_schedule: bool
) -> ExitStatus:
    """Run the pages, the HTTP API, the worker and the schedule, in one process.

    SIGTERM or Ctrl-C: take no new task and finish those under way; after grace_seconds, or at a
    second signal, give them back to the queue.
    """
    check_installed()
    check_notifications(container)
    tell_of_copies()

    def told(url: str) -> Sequence[Part]:
        say(gettext("Serving on %(url)s", url=url))
        sys.stdout.flush()
        return ()

    run_async(
        container,
        lambda: run_service(
            container, host, port, told, works=not no_worker, surveys=not no_schedule
        ),
    )
    return ExitStatus.DONE


async def run_service(
    container: "Container",
    host: str,
    port: int,
    listens: Callable[[str], Sequence[Part]],
    *,
    works: bool = True,
    surveys: bool = True,
) -> None:
    """Serves until a signal. `listens` is called with the address once that takes connections, and
    may give further parts."""
    await _check_password(container, host)
    listening = _listen(host, port)
    stop, abort = asyncio.Event(), asyncio.Event()
    with (
        listening,
        stopped_by_signals(stop.set, abort.set, container.config().grace_seconds, STOPPING),
    ):
        # Here, as it takes its time and needs the extra.
        from imgsync.entrypoints.web.server import WebPart

        parts = [Part("the web server", WebPart(container, listening))]
        parts.append(Part("the reaction to webhooks", container.react(), HEARD_SECONDS))
        if works:
            within = HEARD_SECONDS + 2 * container.config().poll_seconds
            parts.append(Part("the worker", WorkerPart(container, abort), within))
        if surveys:
            parts.append(Part("the schedule", container.scheduler(), HEARD_SECONDS))
        parts.extend(listens(_url(listening)))
        await run_side_by_side(parts, stop, container.pulses())


@click.command("serve-password", epilog=STATUSES)
@pass_container
def serve_password(container: "Container") -> ExitStatus:
    """Set the password of the pages, which ends all sessions.

    It is asked for twice, or read from stdin where that is no terminal.
    """
    check_installed()
    from imgsync.entrypoints.web import sessions

    if sys.stdin.isatty():
        password = asked_secret(gettext("Password"), twice=True) or ""
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        hashed = sessions.hash_of(password)
    except ValueError as error:
        raise CommandError(gettext("%(why)s; nothing is changed", why=error)) from None
    run_async(container, lambda: container.web_secrets().put(sessions.PASSWORD, hashed))
    say(gettext("The password is set; whoever was logged in is no more."))
    return ExitStatus.DONE


def check_installed() -> None:
    """CommandError where the extra is missing."""
    if any(find_spec(name) is None for name in _NEEDS):
        raise CommandError(gettext("the web server is not installed: pip install 'imgsync[serve]'"))


async def _check_password(container: "Container", host: str) -> None:
    from imgsync.entrypoints.web import sessions

    if _is_loopback(host):
        return
    gate = await sessions.gate(container.web_secrets())
    if gate.password_hash is None:
        raise CommandError(
            gettext(
                "other machines reach %(host)s, so the pages need a password: set it with "
                "'imgsync serve-password'",
                host=host,
            )
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """CommandError where that cannot be listened on."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return _bound(family, address)
    except OSError as error:
        raise CommandError(
            gettext(
                "cannot listen on %(host)s, port %(port)s: %(why)s",
                host=host,
                port=port,
                why=error.strerror,
            )
        ) from None


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
