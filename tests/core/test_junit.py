"""Claims about JUnit reports that were written by hand to be awkward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core import junit
from tamma.core.gate import TestStatus
from tamma.core.junit import ReportUnreadable, parse_junit

P, F, S = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED


def files(*names: str) -> Callable[[str], bool]:
    """A checkout with these files."""
    return set(names).__contains__


def case(attributes: str, inner: str = "") -> str:
    """One test case."""
    return f"<testcase {attributes}>{inner}</testcase>"


NONE: Final = files()


def parsed(*cases: str, exists: Callable[[str], bool] = NONE, roots: tuple[str, ...] = ()) -> dict[str, TestStatus]:
    """Statuses of these cases in one suite, as pytest writes it."""
    document = f"<testsuites><testsuite name='pytest'>{''.join(cases)}</testsuite></testsuites>"
    return dict(parse_junit(document.encode(), exists=exists, roots=roots)[0])


@pytest.mark.parametrize(
    ("attributes", "names", "expected"),
    [
        ("classname='tests.test_x' name='t'", ("tests/test_x.py",), "tests/test_x.py::t"),
        (
            "classname='tests.test_x.TestA.TestB' name='t[a.b::c/d]'",
            ("tests/test_x.py",),
            "tests/test_x.py::TestA::TestB::t[a.b::c/d]",
        ),
        ("classname='a.b' name='t'", ("a.py", "a/b.py"), "a/b.py::t"),
        ("classname='a.b' name='t'", ("a.py",), "a.py::b::t"),
        (
            "classname='tests.test_x.TestA' name='t' file='tests/base.py'",
            ("tests/test_x.py", "tests/base.py"),
            "tests/test_x.py::TestA::t",
        ),
        ("classname='tests.test_x.TestA' name='t' file='tests/test_x.py'", (), "tests/test_x.py::TestA::t"),
        (
            "classname='pkg-1.0.tests.test_x.TestA' name='t'",
            ("pkg-1.0/tests/test_x.py",),
            "pkg-1.0/tests/test_x.py::TestA::t",
        ),
        ("classname='README.md' name='README.md'", ("README.md",), "README.md::README.md"),
        ("classname='com.x.FooTest' name='works'", (), "com.x.FooTest::works"),
        ("classname='example.com/pkg' name='TestX/sub'", (), "example.com/pkg::TestX/sub"),
        ("classname='sum adds' name='sum adds' file='/co/sum.test.js'", (), "sum.test.js::sum adds > sum adds"),
        ("classname='test/a.test.ts' name='s &gt; t'", (), "test/a.test.ts::s > t"),
        ("classname='test' name='t' file='/co/test/a.js'", (), "test/a.js::pytest > t"),
        ("classname='tests.test_é' name='t[ü]'", ("tests/test_é.py",), "tests/test_é.py::t[ü]"),
    ],
)
def test_ids(attributes: str, names: tuple[str, ...], expected: str) -> None:
    """The longest prefix that names a file wins; producers without files keep their class names."""
    assert list(parsed(case(attributes), exists=files(*names), roots=("/co",))) == [expected]


def test_statuses() -> None:
    """Failures and errors are failed, skips (and expected failures) skipped, the rest passed."""
    found = parsed(
        case("classname='c' name='ok'", "<system-out>x</system-out>"),
        case("classname='c' name='bad'", "<failure message='m'>text</failure>"),
        case("classname='c' name='err'", "<error message='failed on setup'/>"),
        case("classname='c' name='skip'", "<skipped type='pytest.xfail'/>"),
        case("classname='c' name='both'", "<skipped/><failure/>"),
        case("classname='c' name='down'"),
        case("classname='c' name='down'", "<error message='failed on teardown'/>"),
        case("classname='c' name='down'"),
    )
    assert found == {"c::ok": P, "c::bad": F, "c::err": F, "c::skip": S, "c::both": F, "c::down": F}


def test_an_element_deep_inside_does_not_change_a_status() -> None:
    """Only a direct child of the test case speaks for it."""
    assert parsed(case("classname='c' name='t'", "<properties><failure/></properties>")) == {"c::t": P}


def test_nested_suites_keep_same_names_apart() -> None:
    """Names of nested suites are part of the id."""
    document = b"""<testsuites><testsuite name='outer'>
      <testcase classname='test' name='t'/><testsuite name='inner'><testcase classname='test' name='t'/></testsuite>
    </testsuite><testcase classname='test' name='t'/></testsuites>"""
    assert list(parse_junit(document, exists=files())[0]) == ["outer > t", "outer > inner > t", "t"]


def test_collection_errors_name_files() -> None:
    """A file that could not be collected is broken, and is no test."""
    document = b"""<testsuites><testsuite name='pytest'>
      <testcase classname='' name='tests.test_x'><error message='collection failure'>boom</error></testcase>
      <testcase classname='' name='tests.gone'><error message='collection failure'>boom</error></testcase>
      <testcase classname='' name='tests.test_y'><skipped message='collection skipped'/></testcase>
    </testsuite></testsuites>"""
    tests, broken = parse_junit(document, exists=files("tests/test_x.py", "tests/test_y.py"))
    assert broken == {"tests/test_x.py", "tests.gone"}
    assert tests == {"tests/test_y.py": S}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"100 passed",
        b"<testsuites>",
        b"<html></html>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><testsuites/>",
        b"<!DOCTYPE testsuites SYSTEM 'file:///etc/passwd'><testsuites/>",
        b"<testsuites>" + b"<testsuite>" * 100 + b"</testsuite>" * 100 + b"</testsuites>",
        b"<?xml version='1.0' encoding='rot13'?><testsuites/>",
        b"<testsuites>\xff</testsuites>",
        b"\x00" * 64,
    ],
)
def test_what_is_not_a_report_is_refused(data: bytes) -> None:
    """No DTD, no entities, no depth bomb, no guess."""
    with pytest.raises(ReportUnreadable):
        parse_junit(data, exists=files())


def test_size_and_number_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report larger than its caps is refused, not read in part."""
    two = b"<testsuites><testcase name='a'/><testcase name='b'/></testsuites>"
    for name, value in (("BYTES_MAX", 10), ("TESTS_MAX", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(junit, name, value)
            with pytest.raises(ReportUnreadable):
                parse_junit(two, exists=files())


def test_only_names_inside_the_checkout_are_asked_for() -> None:
    """The report's author does not get to probe the machine."""
    asked: list[str] = []

    def exists(name: str) -> bool:
        asked.append(name)
        return False

    parsed(
        case("classname='/etc/passwd' name='a'"),
        case("classname='../../x' name='b'"),
        case("classname='' name='..x'"),
        exists=exists,
    )
    assert not [name for name in asked if name.startswith("/") or ".." in name.split("/")]


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    """Nothing else is ever raised."""
    with suppress(ReportUnreadable):
        parse_junit(data, exists=files())


NAMES = st.text(alphabet="ab.[]/:-é ", min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=6))
def test_every_case_gets_an_id(cases: list[tuple[str, str]]) -> None:
    """Whatever the names, each case is counted under some id, and asking twice gives the same."""
    cases_xml = [case(f"classname='{c}' name='{n}'") for c, n in cases]
    found = parsed(*cases_xml)
    assert bool(found) == bool(cases)
    assert parsed(*cases_xml) == found
