"""The built-in plugin of the command line: imgsync's commands, as the hook of plugins gives them.

Each is imported once it is run, or asked for its own help: a list of all of them needs a name and
a first sentence, and the database, the HTTP client and the rest take half a second to import.
"""

from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from typing import Any

import click

from imgsync.entrypoints.cli.help import speaks

_PACKAGE = "imgsync.entrypoints.cli"


class LazyCommand(click.Command):
    """A command of `module` in this package, by the name that it has there.

    `first_sentence`: that of its help, which is all that a list shows.
    """

    def __init__(self, name: str, module: str, attribute: str, first_sentence: str) -> None:
        super().__init__(name, help=first_sentence)
        self._module = module
        self._attribute = attribute

    @cached_property
    def loaded(self) -> click.Command:
        """The command itself."""
        found: click.Command = getattr(import_module(f"{_PACKAGE}.{self._module}"), self._attribute)
        return speaks(found)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """That of the command itself, which click runs and completes from then on."""
        return self.loaded.make_context(info_name, args, parent, **extra)


def imgsync_commands() -> Iterable[click.Command]:
    """As a plugin's hook of this name; unmarked, as the marker's package imports too much."""
    return [
        LazyCommand("account", "accounts", "account", "Accounts and their credentials."),
        LazyCommand(
            "api-key",
            "apikeys",
            "api_key",
            "Keys by which programs use the HTTP API of 'imgsync serve'.",
        ),
        LazyCommand(
            "check",
            "check",
            "check",
            "Compare main and child accounts, for every link or for some children.",
        ),
        LazyCommand(
            "cleanup-temp",
            "cleanup",
            "cleanup_temp",
            "Delete downloads that killed workers left behind, or that nobody has used for so "
            "long.",
        ),
        LazyCommand(
            "demo",
            "demo",
            "demo",
            "Copy real photographs between accounts of a MoySklad emulator on this machine.",
        ),
        LazyCommand(
            "doctor",
            "doctor",
            "doctor",
            "Look at everything that a sync needs, and say what is to be done.",
        ),
        LazyCommand(
            "enqueue",
            "enqueue",
            "enqueue",
            "Queue a task for each entity whose images differ, of every link or of some children.",
        ),
        LazyCommand("images", "images", "images", "Images that could not be copied."),
        LazyCommand(
            "link",
            "links",
            "link",
            "Link child accounts to a main account: they receive images of it from now on.",
        ),
        LazyCommand("links", "links", "links", "List the links."),
        LazyCommand(
            "notify-test",
            "notifications",
            "notify_test",
            "Send a test message to each address of notify_urls, and tell whether it went.",
        ),
        LazyCommand(
            "plugins", "plugins", "plugins", "List the plugins and what each of them brings."
        ),
        LazyCommand("queue", "queue", "queue", "The task queue."),
        LazyCommand(
            "runs",
            "runs",
            "runs",
            "What sweeps, surveys, checks and syncs found and did, newest first.",
        ),
        LazyCommand(
            "serve",
            "serve",
            "serve",
            "Run the pages, the HTTP API, the worker and the schedule, in one process.",
        ),
        LazyCommand(
            "serve-password",
            "serve",
            "serve_password",
            "Set the password of the pages, which ends all sessions.",
        ),
        LazyCommand(
            "settings",
            "settings",
            "settings",
            "Image settings of child accounts; both switches are off by default.",
        ),
        LazyCommand(
            "solution",
            "solutions",
            "solution",
            "Solutions of MoySklad's catalogue, by which accounts give their tokens themselves.",
        ),
        LazyCommand(
            "sync", "sync", "sync", "Copy what differs now, for every link or for some children."
        ),
        LazyCommand(
            "undo", "undo", "undo", "Put back what children had before a run, or before a change."
        ),
        LazyCommand(
            "unlink",
            "links",
            "unlink",
            "End the links of child accounts: they receive nothing from now on, and keep what they "
            "have.",
        ),
        LazyCommand(
            "webhooks",
            "webhooks",
            "webhooks",
            "Webhooks, by which MoySklad tells 'imgsync serve' of changes as they happen.",
        ),
        LazyCommand(
            "worker",
            "worker",
            "worker",
            "Run queued tasks, and daily (configured by cleanup_at, 03:00) the cleanup of the "
            "content store and the pruning of tasks that ended long ago (configured by keep_days, "
            "30).",
        ),
    ]
