"""The option by which a command saves what it is about to remove."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

backup_dir_option = click.option(
    "--backup-dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which images of a child are saved before they are removed, those that imgsync "
    "did not put there (default: the configured backup_dir; without it nothing is saved).",
)


def use_backup_dir(container: "Container", folder: Path | None) -> None:
    """In place of the configured one, where a folder is given. BadParameter where it lies in one
    that is cleaned up."""
    if folder is None:
        return
    from dependency_injector import providers

    from imgsync.adapters.files.backup import FolderBackups

    try:
        container.config().check_backup_dir(folder)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--backup-dir'") from None
    container.backups.override(providers.Object(FolderBackups(folder)))
