"""The HTTP API, for programs that have a key. Trouble is told as problem details (RFC 9457)."""

from imgsync.entrypoints.web.api.problems import problem
from imgsync.entrypoints.web.api.routing import ROOT, routes

__all__ = ["ROOT", "problem", "routes"]
