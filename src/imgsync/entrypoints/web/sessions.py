"""Who is who: the password, sessions in signed cookies, and the tokens of their forms."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadSignature, URLSafeTimedSerializer

from imgsync.domain.ports.web import WebSecrets

PASSWORD = "password"  # noqa: S105 (the name of a secret)
SIGNING_KEY = "signing_key"
LIFETIME = timedelta(days=7)
KNOWN_FOR = timedelta(days=180)
"""How long a browser stays known after a login."""
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1000

_ENDED = "ended "
_LONGEST_COOKIE = 500
_HASHER = PasswordHasher()
_AT_ONCE = BoundedSemaphore(2)  # each takes 64 MB


@dataclass(frozen=True, slots=True)
class Session:
    """`csrf`: what each form that changes something must carry."""

    csrf: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides who may come in, as it is stored now."""

    password_hash: str | None
    key: str
    ended: str = ""
    """The cookie that was asked about, where somebody has logged out with it."""

    def new(self) -> tuple[Session, str]:
        """A session, and its cookie."""
        csrf = secrets.token_urlsafe(24)
        return Session(csrf), str(self._serializer.dumps(csrf))

    def session(self, cookie: str | None) -> Session | None:
        """None for a cookie that is none of ours, is older than `LIFETIME`, or was given under
        another password, or that somebody has logged out with."""
        if not cookie or len(cookie) > _LONGEST_COOKIE or cookie == self.ended:
            return None
        try:
            csrf = self._serializer.loads(cookie, max_age=int(LIFETIME.total_seconds()))
        except BadSignature:
            return None
        return Session(csrf) if isinstance(csrf, str) and csrf else None

    def new_browser(self, name: str | None = None) -> str:
        """The cookie by which a browser is known that somebody has logged in with. It opens
        nothing: its attempts to log in are counted apart from those of strangers. `name`: what it
        is known by already."""
        return str(self._signer("browser").dumps(name or secrets.token_urlsafe(16)))

    def browser(self, cookie: str | None) -> str | None:
        """What a browser is known by; None for a cookie that is none of ours, is older than
        `KNOWN_FOR`, or was given under another password."""
        if not cookie or len(cookie) > _LONGEST_COOKIE:
            return None
        try:
            name = self._signer("browser").loads(cookie, max_age=int(KNOWN_FOR.total_seconds()))
        except BadSignature:
            return None
        return name if isinstance(name, str) and name else None

    @property
    def _serializer(self) -> URLSafeTimedSerializer:
        return self._signer("session")

    def _signer(self, purpose: str) -> URLSafeTimedSerializer:
        salt = hashlib.sha256(f"{purpose} {self.password_hash or ''}".encode()).hexdigest()
        return URLSafeTimedSerializer(
            self.key, salt, signer_kwargs={"digest_method": hashlib.sha256}
        )


async def gate(stored: WebSecrets, cookie: str | None = None) -> Gate:
    """The gate as it stands before whoever brings this cookie; its key is made where there is
    none."""
    ended = _ended(cookie or "")
    found = await stored.get_many((PASSWORD, SIGNING_KEY, *([ended] if cookie else [])))
    key = found.get(SIGNING_KEY) or await stored.keep(SIGNING_KEY, secrets.token_urlsafe(48))
    return Gate(found.get(PASSWORD), key, (cookie or "") if ended in found else "")


async def end(stored: WebSecrets, cookie: str) -> None:
    """The session of this cookie is over, wherever else the cookie may be. What is noted of those
    that have grown too old by themselves goes."""
    now = datetime.now(UTC)
    await stored.put(_ended(cookie), now.isoformat())
    await stored.drop_older(_ENDED, (now - LIFETIME).isoformat())


def _ended(cookie: str) -> str:
    """The name by which it is noted that a session is over: the cookie itself opens nothing by
    then, and is kept nowhere all the same."""
    return _ENDED + hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()[:40]


def is_same(token: str, given: str) -> bool:
    """Whether two tokens are the same, in a time that tells nothing."""
    return hmac.compare_digest(token.encode(), given.encode("utf-8", "replace"))


def hash_of(password: str) -> str:
    """What is stored of a password. ValueError for one that is too short, or too long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ValueError(
            f"the password needs {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters"
        )
    return _HASHER.hash(password)


def is_right(password: str, stored_hash: str) -> bool:
    """Takes a tenth of a second and 64 MB, so beside the event loop; two at once at most."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(stored_hash, password[: LONGEST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return False
