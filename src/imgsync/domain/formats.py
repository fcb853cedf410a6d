"""Image formats that MoySklad accepts."""

_SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}

SIGNATURE_BYTES = max(len(signature) for signature in _SIGNATURES)
"""Bytes from the start of a file that `image_format` needs."""


def image_format(head: bytes) -> str | None:
    """'jpg' or 'png' by the file's signature, None for anything else (error 51002)."""
    return next((name for sig, name in _SIGNATURES.items() if head.startswith(sig)), None)
