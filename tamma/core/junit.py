"""JUnit XML read as test ids and statuses.

Ids equal pytest's node ids where pytest wrote the report. Other producers get ``file or class name::name``, with the names
of nested suites joined by `` > ``. The report is written by the code under test, so it is data to distrust: no DTD, no
entities, bounded depth and number. Of two results for one id the worse one stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from tamma.core.gate import TestStatus

BYTES_MAX: Final = 64 * 1024 * 1024
TESTS_MAX: Final = 500_000
_DEPTH_MAX: Final = 64
_PARTS_MAX: Final = 64
_AMBIGUOUS_DOTS_MAX: Final = 8
_GUESSES_MAX: Final = 100_000
_NO_CLASS: Final = frozenset({"", "test", "suite"})
_WORSE: Final = {TestStatus.PASSED: 0, TestStatus.SKIPPED: 1, TestStatus.FAILED: 2}


class ReportUnreadable(ValueError):
    """The bytes are not a JUnit report that may be trusted; the message says why."""


def parse_junit(
    data: bytes, *, exists: Callable[[str], bool], roots: Sequence[str] = ()
) -> tuple[Mapping[str, TestStatus], frozenset[str]]:
    """Statuses by test id, and the files that could not be collected.

    ``exists`` says whether a relative path is a file of the checkout; ``roots`` are the names that the checkout's folder
    goes by, so that absolute file names can be made relative. Raises ReportUnreadable.
    """
    reader = _Reader()
    _feed(reader, data)
    namer = _Namer(exists, tuple(root.rstrip("/") + "/" for root in roots))
    tests: dict[str, TestStatus] = {}
    broken: set[str] = set()
    for case in reader.cases:
        if case.is_collection_error:
            broken.add(namer.path_of(case.name))
            continue
        test_id = namer.id_of(case)
        seen = tests.get(test_id)
        tests[test_id] = case.status if seen is None or _WORSE[case.status] > _WORSE[seen] else seen
    return tests, frozenset(broken)


@dataclass(slots=True, kw_only=True)
class _Case:
    name: str
    classname: str
    file: str
    suites: tuple[str, ...]
    status: TestStatus = TestStatus.PASSED
    is_collection_error: bool = False


@dataclass(slots=True)
class _Reader:
    """Collects the test cases while expat walks the document."""

    cases: list[_Case] = field(default_factory=list)
    _stack: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    _case: _Case | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= _DEPTH_MAX:
            raise ReportUnreadable(f"nested more than {_DEPTH_MAX} deep")
        if not self._stack and tag not in ("testsuites", "testsuite"):
            raise ReportUnreadable(f"its root is <{tag[:40]}>, not <testsuites>")
        self._stack.append((tag, attributes))
        if tag == "testcase":
            self._open(attributes)
        elif self._case is not None and self._stack[-2][0] == "testcase":
            _mark(self._case, tag, attributes)

    def end(self, tag: str) -> None:
        self._stack.pop()
        if tag == "testcase":
            self._case = None

    def _open(self, attributes: Mapping[str, str]) -> None:
        if len(self.cases) >= TESTS_MAX:
            raise ReportUnreadable(f"more than {TESTS_MAX} tests")
        suites = [a for tag, a in self._stack[:-1] if tag == "testsuite"]
        inherited = next((a["file"] for a in reversed(suites) if a.get("file")), "")
        self._case = _Case(
            name=attributes.get("name", ""),
            classname=attributes.get("classname", ""),
            file=attributes.get("file") or inherited,
            suites=tuple(a.get("name", "") for a in suites),
        )
        self.cases.append(self._case)


def _mark(case: _Case, tag: str, attributes: Mapping[str, str]) -> None:
    if tag in ("failure", "error"):
        case.status = TestStatus.FAILED
        case.is_collection_error = (
            not case.classname and tag == "error" and attributes.get("message") == "collection failure"
        )
    elif tag == "skipped" and case.status is not TestStatus.FAILED:
        case.status = TestStatus.SKIPPED


def _feed(reader: _Reader, data: bytes) -> None:
    if len(data) > BYTES_MAX:
        raise ReportUnreadable(f"larger than {BYTES_MAX} bytes")
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)  # noqa: FBT003 — expat takes its arguments by position
    except (expat.ExpatError, UnicodeError, LookupError) as e:
        raise ReportUnreadable(f"not well-formed XML ({e})") from e


def _refuse_doctype(*_: object) -> None:
    raise ReportUnreadable("it has a document type declaration")


class _Namer:
    """Turns what a report says about a test into an id; asks ``exists`` once per name."""

    def __init__(self, exists: Callable[[str], bool], roots: tuple[str, ...]) -> None:
        self._exists = exists
        self._roots = roots
        self._known: dict[str, tuple[str, str] | None] = {}
        self._guesses = 0

    def id_of(self, case: _Case) -> str:
        file = self._relative(case.file)
        if case.classname in _NO_CLASS:
            return self._id_without_class(case, file)
        if file.endswith(".py"):
            dotted = file.removesuffix(".py").replace("/", ".")
            if case.classname == dotted or case.classname.startswith(dotted + "."):
                return _node_id(file, case.classname[len(dotted) + 1 :], case.name)
        split = self._split(case.classname)
        if split is not None:
            return _node_id(*split, case.name)
        if file and file != case.classname:
            return f"{file}::{case.classname} > {case.name}"
        nested = tuple(s for s in case.suites[1:] if s and s != case.classname) if len(case.suites) > 1 else ()
        return f"{case.classname}::{' > '.join((*nested, case.name))}"

    def path_of(self, dotted: str) -> str:
        """The file that a dotted module name stands for; the name itself where there is none."""
        split = self._split(dotted)
        return split[0] if split is not None and not split[1] else dotted

    def _id_without_class(self, case: _Case, file: str) -> str:
        if (
            not case.classname
            and not any(case.suites[1:])
            and (split := self._split(case.name)) is not None
            and not split[1]
        ):
            return split[0]  # a module that skipped itself while it was collected
        name = " > ".join((*(s for s in case.suites if s), case.name))
        return f"{file}::{name}" if file else name

    def _relative(self, path: str) -> str:
        for root in self._roots:
            if path.startswith(root):
                return path[len(root) :]
        return path.removeprefix("./")

    def _split(self, dotted: str) -> tuple[str, str] | None:
        """(file, rest) for the longest prefix that names a file."""
        if dotted not in self._known:
            self._known[dotted] = next(self._candidates(dotted), None)
        return self._known[dotted]

    def _candidates(self, dotted: str) -> Iterator[tuple[str, str]]:
        parts = dotted.split(".")
        if len(parts) > _PARTS_MAX:
            return
        for length in range(len(parts), 0, -1):
            if self._is_file("/".join(parts[:length]) + ".py"):
                yield "/".join(parts[:length]) + ".py", ".".join(parts[length:])
        if self._is_file(dotted):
            yield dotted, ""
        # A folder or file name may hold dots itself: try each of the few ways to read them.
        for length in range(min(len(parts), _AMBIGUOUS_DOTS_MAX), 0, -1):
            for marks in itertools.product("/.", repeat=length - 1):
                self._guesses += 1
                if self._guesses > _GUESSES_MAX:
                    return
                path = "".join(a + b for a, b in zip(parts[:length], (*marks, ""), strict=True))
                for name in (path + ".py", path):
                    if "." in name and self._is_file(name):
                        yield name, ".".join(parts[length:])

    def _is_file(self, name: str) -> bool:
        # The report's author does not get to probe the machine.
        return not (name.startswith("/") or ".." in name.split("/") or "\x00" in name) and self._exists(name)


def _node_id(file: str, classes: str, name: str) -> str:
    return "::".join((file, *(c for c in classes.split(".") if c), name))
