"""Reading of the Authorization header (section Authentication)."""

import base64
import binascii


def parse_authorization(header: str | None) -> tuple[str, str] | None:
    """``("bearer", token)`` or ``("basic", "login:password")``; None for anything else."""
    scheme, _, secret = (header or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return "bearer", secret.strip()
        case "basic":
            return _basic(secret.strip())
    return None


def _basic(secret: str) -> tuple[str, str] | None:
    try:
        return "basic", base64.b64decode(secret, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
