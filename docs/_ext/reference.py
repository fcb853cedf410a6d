"""Writes the reference of commands and configuration from the code, before pages are made of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sphinx.application import Sphinx

from imgsync.entrypoints.cli.commands import LazyCommand
from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import Config

_ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (`IMGSYNC_.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


def commands() -> str:
    """Every command with its usage, help, arguments and options."""
    parts = ["# Commands", "Written from the code. `imgsync COMMAND --help` shows the same."]
    context = click.Context(main, info_name="imgsync")
    parts.extend(_told(main, context, 2, lists=False))
    for command, inner in _below(main, context):
        parts.extend(_told(command, inner, 2, lists=True))
        if isinstance(command, click.Group):
            for one, innermost in _below(command, inner):
                parts.extend(_told(one, innermost, 3, lists=True))
    return "\n\n".join(parts) + "\n"


def configuration() -> str:
    """Each value: its key, its variable, kind, default and bounds as the code has them, and what
    README says of it."""
    texts = _texts()
    parts = [
        "# Configuration",
        "Written from the code. A variable of the environment wins over the TOML file "
        "(`--config`, `IMGSYNC_CONFIG`, `./imgsync.toml`, or `imgsync/config.toml` in the user's "
        "configuration folder).",
    ]
    for name, field in Config.model_fields.items():
        schema = Config.model_json_schema()["properties"][name]
        parts.append(f"## {name}")
        parts.append(texts[name])
        parts.append("\n".join(f"- {line}" for line in _facts(name, field, schema)))
    return "\n\n".join(parts) + "\n"


def _facts(name: str, field: Any, schema: dict[str, Any]) -> Iterator[str]:
    yield f"Environment: `IMGSYNC_{name.upper()}`"
    if field.default_factory is None and field.default not in (None, (), ""):
        default = field.default
        told = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        yield f"Default: `{told.lower() if isinstance(default, bool) else told}`"
    of = [schema, *schema.get("anyOf", ())]
    least, most = (next((one[key] for one in of if key in one), None) for key in _BOUNDS)
    if least is not None or most is not None:
        yield f"From {least or 0:,} to {'any' if most is None else f'{most:,}'}"


_BOUNDS = ("minimum", "maximum")


def _texts() -> dict[str, str]:
    """README's text of each value. KeyError later for one that has none."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    texts = {}
    for names, _, text in _ROW.findall(readme):
        for name in re.findall(r"IMGSYNC_(\w+)", names):
            inside = re.sub(r"\]\(docs/", "](../", text)
            texts[name.lower()] = (
                inside[:1].upper() + inside[1:] + ("" if text.endswith(".") else ".")
            )
    return texts


def _below(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, Any]]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if found is None:
            raise LookupError(f"there is no command '{name}', though it is listed")
        command = found.loaded if isinstance(found, LazyCommand) else found
        yield command, click.Context(command, parent=context, info_name=name)


def _told(
    command: click.Command, context: click.Context, level: int, *, lists: bool
) -> Iterator[str]:
    yield f"{'#' * level} {context.command_path if lists else 'All commands'}"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        text = " ".join(line.strip() for line in paragraph.replace("\b", "").splitlines()).strip()
        if text:
            yield _escaped(text)
    records = [one.get_help_record(context) for one in command.get_params(context)]
    rows = [record for record in records if record is not None and "--help" not in record[0]]
    if rows:
        lines = [f"| `{_cell(option)}` | {_escaped(_cell(text))} |" for option, text in rows]
        yield "\n".join(["| Option | |", "| --- | --- |", *lines])


def _escaped(text: str) -> str:
    return re.sub(r"([*_<\[\]])", r"\\\1", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in (("commands", commands()), ("configuration", configuration())):
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "version": "1"}
