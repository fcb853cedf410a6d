"""A pytest within a pytest."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


class Outcome:
    """A plugin that counts the tests, and names the first that failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.skipped: list[str] = []
        self.failed: list[str] = []
        self.errors: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid.rpartition("::")[2])
            self.errors.append(report.longreprtext)
        elif report.skipped:
            self.skipped.append(report.longreprtext)
        elif report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.longreprtext)


@contextmanager
def _unseen() -> Iterator[None]:
    """What the outer pytest says of itself to its tests is no matter of the inner one."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_")}
    try:
        yield
    finally:
        os.environ.update(kept)


def run(tests: Sequence[str], outcome: Outcome, *options: str) -> None:
    """Runs tests of a module without any configuration, as in a folder where there is none."""
    folder = str(Path(tests[0].partition("::")[0]).parent)
    plain = ["-c", os.devnull, "--noconftest", "--import-mode=importlib"]
    plugins = [f"-pno:{name}" for name in ("terminal", "cacheprovider", "xdist")]
    with _unseen():
        pytest.main([*tests, *options, *plain, "--rootdir", folder, *plugins], plugins=[outcome])
