"""No suite is kinder than its port: whatever breaks a sentence fails the test of that sentence."""

from pathlib import Path

import pytest

from tests.testing.inner import Outcome, run
from tests.testing.mutants import MUTANTS

pytestmark = pytest.mark.slow

MODULE = Path(__file__).with_name("mutated.py")


class Failures(Outcome):
    """`found`: class and test of each that failed, without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # the quickest

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        super().pytest_runtest_logreport(report)
        if report.failed and report.when == "call":
            _, proof, test = report.nodeid.split("::")
            self.found.add((proof, test.partition("[")[0]))


@pytest.mark.parametrize(
    "of", ["changes", "queue", "repositories", "failures", "storage", "moysklad"]
)
def test_each_mutant_fails_the_test_of_its_sentence(of: str) -> None:
    mutants = {m: test for m, test in MUTANTS.items() if m.__module__.endswith(f".{of}")}
    proofs = {(f"Test{adapter.__name__}", test) for adapter, test in mutants.items()}
    outcome = Failures()
    run([f"{MODULE}::{proof}::{test}" for proof, test in sorted(proofs)], outcome)
    assert proofs - outcome.found == set(), outcome.errors
    assert len(proofs) >= 15


def test_the_adapters_themselves_pass_these_tests() -> None:
    proofs = set()
    for mutant, test in MUTANTS.items():
        whole = next(base for base in mutant.__mro__ if base.__module__.startswith("imgsync."))
        proofs.add(f"{MODULE}::Test{whole.__name__}::{test}")
    outcome = Outcome()
    run(sorted(proofs), outcome)
    assert outcome.errors == []
    assert outcome.skipped == []
    assert outcome.passed >= len(proofs)
