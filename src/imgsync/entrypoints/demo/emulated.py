"""imgsync over an emulator that runs here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from imgsync.adapters.secrets.keys import new_key
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator import Emulator, EmulatorServer


@contextmanager
def emulated(emulator: Emulator, container: Container, folder: Path) -> Iterator[Container]:
    """A container for the emulator, which is served meanwhile, with all of its files in `folder`
    and a configuration of its own, but for the given container's strategy and concurrency."""
    given = container.config()
    with EmulatorServer(emulator) as server:
        config = FixedConfig(
            api_url=server.api_url,
            database_url=f"sqlite:///{folder / 'demo.db'}",
            key=SecretStr(new_key()),
            key_file=folder / "demo.key",
            temp_dir=folder / "temp",
            miniatures_dir=folder / "miniatures",
            replace_strategy=given.replace_strategy,
            concurrency=given.concurrency,
        )
        yield Container(config=config)
