"""MoySklad emulator over HTTP: enforces the documented behaviour of API remap 1.2."""

from imgsync.adapters.emulator.accounts import (
    EmulatedAccount,
    EmulatedEntity,
    EmulatedUser,
    UserKind,
)
from imgsync.adapters.emulator.dialect import SWITCHES, Dialect
from imgsync.adapters.emulator.faults import Fault, Faults
from imgsync.adapters.emulator.images import ImageCopy
from imgsync.adapters.emulator.limits import EmulatorLimits
from imgsync.adapters.emulator.pairwise import pairwise_dialects
from imgsync.adapters.emulator.server import EmulatorServer, EmulatorServerError
from imgsync.adapters.emulator.state import Emulator
from imgsync.adapters.emulator.stats import Stats

__all__ = [
    "SWITCHES",
    "Dialect",
    "EmulatedAccount",
    "EmulatedEntity",
    "EmulatedUser",
    "Emulator",
    "EmulatorLimits",
    "EmulatorServer",
    "EmulatorServerError",
    "Fault",
    "Faults",
    "ImageCopy",
    "Stats",
    "UserKind",
    "pairwise_dialects",
]
