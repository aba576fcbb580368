"""The gate of a Node case: each test file under ``node --test``, its TAP turned into one JUnit report.

``npm_gate.py --report FILE [--modules FOLDER] [--timeout-seconds N] FILE ...``, run in the checkout. The ids are those of
`build_case.py`: ``file::name > nested name``. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

SUBTEST = re.compile(r"^( *)# Subtest: (.*)$")
RESULT = re.compile(r"^( *)(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
INDENT = 4


def main() -> int:
    """0 when every file that is there ran and none failed."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--report", required=True, type=Path)
    asked.add_argument("--modules", type=Path)
    asked.add_argument("--timeout-seconds", type=float, default=120)
    asked.add_argument("files", nargs="*")
    given = asked.parse_args()
    if given.modules is not None and not os.path.lexists("node_modules"):
        # A link and not NODE_PATH, which ES modules ignore.
        Path("node_modules").symlink_to(given.modules.resolve(), target_is_directory=True)
    results: dict[str, dict[str, str]] = {}
    codes = []
    for name in given.files:
        if Path(name).exists():
            output, code = run(name, timeout_seconds=given.timeout_seconds)
            print(output, end="")
            # A file without tests of its own is named by its absolute path, which is another one in each checkout.
            results[name] = parse_tap(output.replace(f"{Path.cwd()}/", ""))
            codes.append(code)
    given.report.write_text(junit(results), encoding="utf-8")
    return int(any(codes))


def run(name: str, *, timeout_seconds: float) -> tuple[str, int]:
    """(output, exit code) of one test file; past its time the whole group of processes is ended, and the code is 124."""
    child = subprocess.Popen(
        ["node", "--test", "--test-reporter=tap", name], text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        return child.communicate(timeout=timeout_seconds)[0], child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return child.communicate()[0], 124


def parse_tap(text: str) -> dict[str, str]:
    """``passed``, ``failed`` or ``skipped`` by the test's name, the names above it before it; a failure stays one."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in text.splitlines():
        if opened := SUBTEST.match(line):
            above = [*above[: len(opened[1]) // INDENT], opened[2].strip()]
        if said := RESULT.match(line):
            name = " > ".join([*above[: len(said[1]) // INDENT], said[3].strip()])
            if found.get(name) != "failed":
                found[name] = "failed" if said[2] else ("skipped" if said[4] else "passed")
    return found


def junit(results: Mapping[str, Mapping[str, str]]) -> str:
    """One JUnit document; suites have no name, since every name would become part of the ids."""
    marks = {"passed": "", "failed": '<failure message="failed"/>', "skipped": "<skipped/>"}
    cases = [
        f"<testcase classname={quoteattr('test')} name={_attribute(name)} file={_attribute(file)}>{marks[status]}</testcase>"
        for file, tests in results.items()
        for name, status in tests.items()
    ]
    return "\n".join(
        ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites><testsuite>", *cases, "</testsuite></testsuites>", ""]
    )


def _attribute(text: str) -> str:
    return quoteattr(NOT_XML.sub("", text))


if __name__ == "__main__":
    sys.exit(main())
