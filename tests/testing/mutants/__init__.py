"""Adapters in memory that break one sentence of their port each."""

from tests.testing.mutants import moysklad, queue, repositories, storage
from tests.testing.mutants.registry import MUTANTS

__all__ = ["MUTANTS", "moysklad", "queue", "repositories", "storage"]
