"""The gate of a Python case: the package's own tests under pytest, with the case's import path and a JUnit report.

``pypi_gate.py --report FILE --pythonpath PATH ... --files FILE ...``, run in the checkout by the interpreter that has the
requirements. Files that are not there yet are left out, as `build_case.py` does. Standard library and pytest only.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

NO_TESTS = '<?xml version="1.0"?><testsuites></testsuites>'


def main() -> int:
    """Replace this process by pytest; 0 at once when no file is there to run."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--report", required=True, type=Path)
    asked.add_argument("--pythonpath", nargs="*", default=[])
    asked.add_argument("--files", nargs="*", default=[])
    given = asked.parse_args()
    files = [name for name in given.files if Path(name).exists()]
    # Absolute, so that children which a test starts in another folder find the package too.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str((Path.cwd() / p).resolve()) for p in given.pythonpath)}
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=default"]
    argv = [sys.executable, "-m", "pytest", *options, f"--junitxml={given.report}", *files]
    if files:
        os.execve(sys.executable, argv, environ)
    given.report.write_text(NO_TESTS, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
