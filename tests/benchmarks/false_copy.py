"""A copy that says it copied twenty images, and copied none."""

from benchmarks.report import finish

if __name__ == "__main__":
    finish(20, 0.1)
