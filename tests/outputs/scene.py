"""A main shop and two franchises in an emulator, one of which has its token refused: what commands
print about them is what the documents show."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from imgsync.entrypoints.cli.main import main
from moysklad_emulator import EmulatedAccount, Emulator, EmulatorLimits, EmulatorServer
from tests.shop import pictures

BROKEN = ("cut-off.png", b"no picture")
PRODUCTS = (
    ("Lamp", "L-1", pictures(2)),
    ("Chair", "C-1", [*pictures(1, 1200), BROKEN]),
    ("Sofa", "S-1", [BROKEN]),
)
LATER = ("Table", "T-1", pictures(1, 1300))


@dataclass(frozen=True, slots=True)
class Scene:
    """A host, where `run` gives what a command prints, and `folder` is all that it writes to."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, token: str | None = None) -> str:
        own = {"IMGSYNC_TOKEN": token} if token else {}
        return CliRunner().invoke(main, arguments, env=self.environment | own).output


@contextmanager
def scene() -> Iterator[Scene]:
    """Omsk has been copied to: one product came whole, one in part, one not at all, and one waits;
    Tomsk's token is not accepted any more."""
    with (
        tempfile.TemporaryDirectory(prefix="imgsync-outputs-") as name,
        EmulatorServer(Emulator(EmulatorLimits(rate_units=45))) as server,
    ):
        folder = Path(name)
        here = {one: None for one in os.environ if one.startswith("IMGSYNC_")}
        told = Scene(
            folder,
            here  # type: ignore[arg-type]  # None takes a variable away
            | {
                "IMGSYNC_API_URL": server.api_url,
                "IMGSYNC_DATABASE_URL": f"sqlite:///{folder / 'imgsync.db'}",
                "IMGSYNC_KEY_FILE": str(folder / "imgsync.key"),
                "IMGSYNC_TEMP_DIR": str(folder / "store"),
                "IMGSYNC_MINIATURES_DIR": str(folder / "miniatures"),
                "XDG_CONFIG_HOME": str(folder),
                "LC_ALL": "C.UTF-8",
            },
        )
        shop, omsk, tomsk = (
            server.emulator.add_account(account) for account in ("Main shop", "Omsk", "Tomsk")
        )
        for account in (shop, omsk, tomsk):
            token = f"sample-{account.name.split()[0]}"
            account.add_user(token=token, kind="solution")
            if account is tomsk:
                token = "revoked"
            told.run("account", "add", account.id, "--offline", "--name", account.name, token=token)
        for product in PRODUCTS:
            _add(product, shop, omsk)
        told.run("link", "Main shop", "Omsk", "--sync-images-all")
        told.run("sync")
        told.run("link", "Main shop", "Tomsk", "--sync-images-all")
        _add(LATER, shop, omsk)
        told.run("enqueue", "--main", "Main shop", "--child", "Omsk", "--since", "1h")
        yield told


def _add(
    product: tuple[str, str, list[tuple[str, bytes]]],
    shop: EmulatedAccount,
    child: EmulatedAccount,
) -> None:
    name, code, images = product
    shop.add_entity("product", name=name, external_code=f"x-{name}", code=code, images=images)
    child.add_entity("product", name=name, external_code=f"x-{name}")
