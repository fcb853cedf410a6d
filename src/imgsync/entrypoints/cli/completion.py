"""What the shell completes: names of accounts, and of entity types.

An error is no news for one who has pressed Tab: nothing is completed then.
"""

import logging
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from imgsync.domain.text import natural_key, shown


def account_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Those of the database, where it can be read."""

    def read() -> Iterable[str]:
        from imgsync.adapters.sql.names import account_names
        from imgsync.entrypoints.config import load_config

        config = load_config(ctx.find_root().params.get("config_path"))
        return account_names(config.database_url)

    return _completed(read, incomplete)


def type_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of imgsync and of the plugins."""

    def read() -> Iterable[str]:
        from imgsync.entrypoints.cli import commands
        from imgsync.plugins.manager import load_plugins

        return load_plugins(commands).entity_types.names

    return _completed(read, incomplete)


def _completed(read: Callable[[], Iterable[str]], incomplete: str) -> list[CompletionItem]:
    logging.disable()  # the process ends after this, and its stderr is the prompt
    try:
        names = sorted(set(read()), key=natural_key)
    except Exception:  # whatever it is: a shell has no place to tell it
        return []
    finally:
        logging.disable(logging.NOTSET)
    begun = incomplete.casefold()
    # A name that cannot be shown as it is would be completed to another one.
    found = (name for name in names if name.casefold().startswith(begun) and shown(name) == name)
    return [CompletionItem(name) for name in found]
