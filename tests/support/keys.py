"""The key that commands of the tests make and use, where no other one is given."""

import os
from pathlib import Path

from imgsync.adapters.secrets.box import FernetBox
from imgsync.adapters.secrets.keys import KeyFile
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.adapters.sql.secrets import SqlSecrets


def key_file(home: Path | str | None = None) -> Path:
    """That of the user's configuration folder, which the tests have set."""
    return Path(home or os.environ["XDG_CONFIG_HOME"]) / "imgsync" / "imgsync.key"


def opened(database: Database, file: Path | None = None) -> SqlSecrets:
    return SqlSecrets(database, FernetBox(KeyFile(file or key_file())))


def accounts_of(database: Database, file: Path | None = None) -> SqlAccountRepository:
    """As the program reads and stores them."""
    return SqlAccountRepository(database, secrets=opened(database, file))
