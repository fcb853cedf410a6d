"""Where the keys are kept: given by the configuration, in a file, in the system's keyring.

A key is 32 bytes in URL-safe base64, as Fernet has it. Of several the first is the newest.
"""

import base64
import binascii
import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from imgsync.domain.errors import KeyStoreError

_log = logging.getLogger(__name__)
_KEY_BYTES = 32
_SERVICE, _NAME = "imgsync", "key"
_LOCK_SECONDS = 10.0
_ATTEMPTS = 5
_HEAD = """\
# Keys of imgsync: the tokens in the database are worth nothing without the key they are encrypted
# with. Keep a copy of this file, apart from that of the database. The newest key is first.
"""


class Keys(Protocol):
    """A place of keys. KeyStoreError where it cannot be used, or holds what is no key."""

    @property
    def where(self) -> str:
        """The place in words, which tell no key."""
        ...

    def read(self) -> list[str]:
        """The newest first; empty where there are none, or not even the place."""
        ...

    def make(self) -> list[str]:
        """Makes the first key; where another process was first, those are the keys."""
        ...

    def put(self, keys: Sequence[str]) -> None:
        """Before those that are there, none of which is lost. They are on the disk at the return;
        cut off, the ones from before are."""
        ...

    def left(self) -> list[Path]:
        """Files with keys that processes which were killed have left beside the place."""
        ...

    def take_up(self) -> None:
        """Keeps the keys of such files, behind those that are there, and removes the files; the
        log says so. Wherever this is cut off, no key is lost."""
        ...


def new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


class GivenKeys:
    """Keys that the configuration gives, with commas between; nothing is made or changed there."""

    def __init__(self, given: str, where: str) -> None:
        self._given = given
        self.where = where

    def read(self) -> list[str]:
        return _checked([key.strip() for key in self._given.split(",")], self.where)

    def make(self) -> list[str]:
        return self.read()

    def put(self, keys: Sequence[str]) -> None:
        raise KeyStoreError(
            f"The key is given by {self.where}, which imgsync does not change: make one with "
            "'imgsync account new-key' and put it there, in front of the present one and a comma; "
            "then rekey"
        )

    def left(self) -> list[Path]:
        return []

    def take_up(self) -> None:
        return


class KeyFile:
    """Keys in a file, a line each, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = f"the key file {path}"

    def read(self) -> list[str]:
        try:
            with open(self._path, encoding="ascii", opener=_without_waiting) as file:
                mode = os.fstat(file.fileno())
                if not stat.S_ISREG(mode.st_mode):
                    raise KeyStoreError(f"{_begun(self.where)} is no file")
                text = file.read(100_000)
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            raise KeyStoreError(
                f"{_begun(self.where)} holds no keys; it was left as it is"
            ) from None
        except OSError as error:
            raise KeyStoreError(f"Cannot read {self.where}: {error.strerror}") from None
        self._keep_private(mode)
        lines = [line.strip() for line in text.splitlines()]
        return _checked([line for line in lines if line and line[0] != "#"], self.where)

    def make(self) -> list[str]:
        if keys := self.read():
            return keys
        with self._alone():
            self._write([new_key()], replaces=False)
        _log.info("a new key for the tokens was made in %s; keep a copy of it", self.where)
        return self.read()

    def put(self, keys: Sequence[str]) -> None:
        with self._alone():
            # Of two databases with one file, both may be rekeyed at this moment.
            self._write(dict.fromkeys([*keys, *self.read()]), replaces=True)

    def left(self) -> list[Path]:
        path = Path(os.path.realpath(self._path))
        name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
        try:
            found = sorted(one for one in path.parent.iterdir() if name.fullmatch(one.name))
        except OSError:
            return []
        owners = _owners(path)
        return [one for one in found if _is_file_of(one, owners)]

    def take_up(self) -> None:
        for file in self.left():
            # Each anew, as the lock is on the file that is replaced.
            with self._alone() as is_alone:
                # Else it may be what another process is just writing.
                if is_alone and file in self.left():
                    self._take_up(file)

    def _take_up(self, file: Path) -> None:
        path = Path(os.path.realpath(self._path))
        try:
            lines = file.read_text("ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("%s cannot be read: %s; it was left as it is", file, error.strerror)
            return
        known = self.read()
        # What was cut in the midst of a key has encrypted nothing.
        new = [key for key in dict.fromkeys(lines) if is_key(key) and key not in known]
        if new:
            # Not before the others: what is first is what tokens are encrypted with from now on.
            self._write([*known, *new], replaces=True, like=path if path.exists() else file)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s cannot be removed: %s; do so", file, error.strerror)
            return
        kept = f"{len(new)} of its keys kept in {self.where}" if new else "it held no other key"
        _log.warning("removed %s, which a rekeying that was cut off has left: %s", file, kept)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Meanwhile no other process writes keys here, until the file is replaced; False where that
        cannot be had, as of the folders of some servers. KeyStoreError where another one does so
        for long."""
        path = Path(os.path.realpath(self._path))
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                opened = _opened_for_lock(path)
            except OSError as error:
                raise self._unwritable(error) from None
            try:
                is_alone = _lock(opened, self.where, until)
                if _is_what_is_there(opened, path):
                    yield is_alone
                    return
            finally:
                os.close(opened)

    def _unwritable(self, error: OSError) -> KeyStoreError:
        return KeyStoreError(
            f"Cannot write {self.where}: {error.strerror}; nothing is changed "
            "(IMGSYNC_KEY_FILE names another place)"
        )

    def _keep_private(self, found: os.stat_result) -> None:
        if not found.st_mode & 0o077:
            return
        if found.st_uid == os.geteuid():
            with suppress(OSError):
                self._path.chmod(0o600)
                _log.warning("others could read %s; only its owner can from now on", self.where)
                return
        if found.st_mode & 0o007:  # a container's secret is of another owner, and of our group
            _log.warning("everybody on this machine can read %s", self.where)

    def _write(self, keys: Iterable[str], *, replaces: bool, like: Path | None = None) -> None:
        """`like`: whose owner and mode the file gets, in place of those of the one it replaces."""
        # Where links lead to it, the file itself is replaced.
        path = Path(os.path.realpath(self._path)) if replaces else self._path
        folder = path.parent
        temp = folder / f".{path.name}.{secrets.token_hex(8)}"
        try:
            try:
                with os.fdopen(
                    os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
                ) as f:
                    if replaces:
                        _give_as(like or path, f.fileno())
                    f.write(_HEAD + "".join(f"{key}\n" for key in keys))
                    f.flush()
                    os.fsync(f.fileno())
                if replaces:
                    temp.replace(path)
                else:
                    with suppress(FileExistsError):  # of another process that was first
                        os.link(temp, self._path)
            finally:
                temp.unlink(missing_ok=True)
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        except OSError as error:
            raise self._unwritable(error) from None


class KeyringKeys:
    """Keys in the keyring of the user's system, by the package `keyring`.

    `lock`: a file of that user's, by which processes that write there wait for one another; a
    keyring has no such thing.
    """

    where = "the system's keyring"

    def __init__(self, lock: Path) -> None:
        self._lock_file = lock

    def read(self) -> list[str]:
        found = self._call("get_password", _SERVICE, _NAME)
        return _checked(str(found).split(), self.where) if found else []

    def make(self) -> list[str]:
        if keys := self.read():
            return keys
        with self._alone():
            if not self.read():  # another process was first
                self._write([new_key()])
        return self.read()

    def put(self, keys: Sequence[str]) -> None:
        with self._alone():
            self._write(keys)

    def _write(self, keys: Sequence[str]) -> None:
        for _ in range(_ATTEMPTS):
            # Of two databases with one keyring, both may be rekeyed at this moment.
            self._call(
                "set_password", _SERVICE, _NAME, " ".join(dict.fromkeys([*keys, *self.read()]))
            )
            # Where there is no lock, another process may have put its own in their place.
            if set(keys) <= set(self.read()):
                return
        raise KeyStoreError("The system's keyring does not keep what is put there: try again")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """As far as can be: the home of some users may not be written."""
        opened = None
        with suppress(OSError):
            self._lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            opened = os.open(self._lock_file, flags, 0o600)
        try:
            if opened is not None:
                _lock(opened, self.where, time.monotonic() + _LOCK_SECONDS)
            yield
        finally:
            if opened is not None:
                os.close(opened)

    def left(self) -> list[Path]:
        return []

    def take_up(self) -> None:
        return

    def _call(self, name: str, *arguments: str) -> object:
        try:
            import keyring
        except ModuleNotFoundError:
            raise KeyStoreError(
                "The system's keyring needs the package 'keyring': pip install 'imgsync[keyring]'"
            ) from None
        try:
            found: object = getattr(keyring, name)(*arguments)
        except Exception as error:  # of whatever keyring stands behind it
            # Not its text, which is anybody's.
            raise KeyStoreError(
                f"The system's keyring cannot be used ({type(error).__name__})"
            ) from None
        return found


def _opened_for_lock(path: Path) -> int:
    """The file itself, which strangers cannot open; they may the folder, and would hold its lock
    for as long as they like. The folder while there is no file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return os.open(path.parent, os.O_RDONLY)


def _is_what_is_there(opened: int, path: Path) -> bool:
    """Whether another process has not put another file in its place before it had the lock."""
    try:
        there = path.stat()
    except FileNotFoundError:
        there = path.parent.stat()
    return os.path.samestat(os.fstat(opened), there)


def _lock(opened: int, where: str, until: float) -> bool:
    """False where the file can have no lock."""
    while True:
        if time.monotonic() > until:
            raise KeyStoreError(
                f"Another process is writing {where}; nothing is changed: try again"
            )
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            return False
        else:
            return True


def _checked(keys: list[str], where: str) -> list[str]:
    if not keys:
        raise KeyStoreError(f"{_begun(where)} holds no key; it was left as it is")
    for number, key in enumerate(keys, 1):
        if not is_key(key):
            raise KeyStoreError(
                f"{_begun(where)} holds something else as key {number} of {len(keys)} "
                "(a key is 44 characters of base64); it was left as it is"
            )
    return list(dict.fromkeys(keys))


def _owners(path: Path) -> set[int]:
    """Ours, and that of the file, where root rekeys for services of another user."""
    owners = {os.geteuid()}
    with suppress(OSError):
        owners.add(path.stat().st_uid)
    return owners


def _is_file_of(path: Path, owners: set[int]) -> bool:
    """Whether it may be one that imgsync has made."""
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_uid in owners
    return False


def _give_as(path: Path, file: int) -> None:
    """The owner, group and mode of what is there: where root rekeys, services of another user go on
    reading. OSError where that owner cannot be given, who would be locked out."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return
    made = os.fstat(file)
    if (there.st_uid, there.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(file, there.st_uid, there.st_gid)
    os.fchmod(file, there.st_mode & 0o640)


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; of a pipe it does not wait for the other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
