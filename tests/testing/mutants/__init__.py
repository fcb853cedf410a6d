"""Adapters in memory that break one sentence of their port each."""

from tests.testing.mutants import changes, failures, moysklad, queue, repositories, storage
from tests.testing.mutants.registry import MUTANTS

__all__ = ["MUTANTS", "changes", "failures", "moysklad", "queue", "repositories", "storage"]
