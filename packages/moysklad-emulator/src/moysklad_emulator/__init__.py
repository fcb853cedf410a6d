"""MoySklad emulator over HTTP: enforces the documented behaviour of API remap 1.2."""

from moysklad_emulator.accounts import (
    EmulatedAccount,
    EmulatedEntity,
    EmulatedUser,
    UserKind,
)
from moysklad_emulator.dialect import SWITCHES, Dialect
from moysklad_emulator.faults import Fault, Faults
from moysklad_emulator.images import ImageCopy
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.pairwise import pairwise_dialects
from moysklad_emulator.server import EmulatorServer, EmulatorServerError
from moysklad_emulator.state import Emulator
from moysklad_emulator.stats import Stats
from moysklad_emulator.vendor import Solution, Vendor, VendorCall

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
    "Solution",
    "Stats",
    "UserKind",
    "Vendor",
    "VendorCall",
    "pairwise_dialects",
]
