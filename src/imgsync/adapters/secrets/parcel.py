"""A file of accounts for another database, encrypted with a passphrase: scrypt and Fernet.

Two lines: what it is, with the cost and the salt of scrypt and the length of what follows; and the
content.
"""

import base64
import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from imgsync.domain.errors import ImgsyncError

_HEAD = re.compile(rb"imgsync accounts 1 scrypt ([0-9]{1,2}) ([0-9a-f]{32}) ([0-9]{1,9})\n")
_COST = 15
_COSTS = range(10, 19)
"""Of which no file makes a reader take more than 256 MB, or guessing a passphrase cheap."""

_MOST_BYTES = 50_000_000


class ParcelError(ImgsyncError):
    """The file cannot be read, written or decrypted; the text names it."""


def write_parcel(file: Path, content: bytes, passphrase: str) -> None:
    """A new file that only its owner may read, whole or not at all. ParcelError, also where there
    is a file already, which is left as it is."""
    from cryptography.fernet import Fernet

    salt = secrets.token_bytes(16)
    token = Fernet(_key(passphrase, salt, _COST)).encrypt(content)
    head = f"imgsync accounts 1 scrypt {_COST} {salt.hex()} {len(token)}\n".encode()
    temp = file.parent / f".{file.name}.{secrets.token_hex(8)}"
    try:
        try:
            made = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "wb") as opened:
                opened.write(head + token + b"\n")
                opened.flush()
                os.fsync(opened.fileno())
            os.link(temp, file)
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()
    except FileExistsError:
        raise ParcelError(f"There is a file {file} already; it was left as it is") from None
    except OSError as error:
        raise ParcelError(f"Cannot write {file}: {error.strerror}") from None


def read_parcel(file: Path, passphrase: str) -> bytes:
    """What `write_parcel` was given. ParcelError."""
    from cryptography.fernet import Fernet, InvalidToken

    try:
        with file.open("rb") as opened:
            found = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ParcelError(f"Cannot read {file}: {error.strerror}") from None
    head = _HEAD.match(found)
    if head is None or int(head[1]) not in _COSTS:
        raise ParcelError(f"The file {file} is none that 'imgsync account export' has made")
    token = found[head.end() :].rstrip(b"\n")
    if len(token) != int(head[3]):
        raise ParcelError(
            f"The file {file} is not whole: it has {len(token)} of {int(head[3])} bytes"
        )
    try:
        return Fernet(_key(passphrase, bytes.fromhex(head[2].decode()), int(head[1]))).decrypt(
            token
        )
    except InvalidToken:
        raise ParcelError(
            f"The file {file} cannot be decrypted: the passphrase is another one, or the file is "
            "damaged"
        ) from None


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    memory = 128 * 8 * 2**cost
    derived = hashlib.scrypt(
        # As it was typed, in whatever encoding the terminal has.
        passphrase.encode(errors="surrogateescape"),
        salt=salt,
        n=2**cost,
        r=8,
        p=1,
        maxmem=2 * memory,
        dklen=32,
    )
    return base64.urlsafe_b64encode(derived)
