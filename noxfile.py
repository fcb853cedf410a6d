"""The tests under each Python that is installed here; others are skipped by name."""

import nox

nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """`make check`'s tests; with arguments, those: ``nox -s tests -- tests/e2e``."""
    session.install("--editable", "packages/moysklad-emulator", "--editable", ".[dev]")
    quick = ("-m", "not process and not database and not slow", "--hypothesis-profile=quick")
    session.run("pytest", "-q", "-n", "2", *(session.posargs or quick))
