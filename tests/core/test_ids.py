"""Identifiers agree across processes, and a branch name is harmless wherever it is put."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.errors import ConfigError
from tamma.core.ids import (
    IssueRef,
    blob_id,
    branch_name,
    correlation_id,
    is_safe_branch,
    issue_key,
    parse_task_id,
    task_id,
    worker_id,
)
from tests.core.builders import REF


def test_a_task_id_never_changes() -> None:
    """A CI job without a shared database arrives at the same keys; this value is a promise."""
    assert task_id(REF, kind="resolve", generation=1) == "09c1901c-e661-5999-88bf-9ac60d2d8dae"
    assert task_id(REF, kind="resolve", generation=1) == task_id(replace(REF), kind="resolve", generation=1)
    assert task_id(REF, kind="resolve", generation=1) != task_id(REF, kind="resolve", generation=2)
    assert correlation_id(REF) == "764239a5-c7f2-5eec-9036-9faea99bcb84"


def test_a_process_and_a_text_have_names() -> None:
    """Host, pid and boot; the SHA-256 of the bytes, as any other program computes it."""
    assert worker_id(host="vm", pid=7, boot="ab12") == "vm:7:ab12"
    assert blob_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(a=st.tuples(st.text(max_size=8), st.text(max_size=8)), b=st.tuples(st.text(max_size=8), st.text(max_size=8)))
def test_two_issues_never_share_an_id(a: tuple[str, str], b: tuple[str, str]) -> None:
    """However their parts are cut."""
    ref_a, ref_b = (
        IssueRef(forge="f", repository=r.replace("\x1f", ""), number=n.replace("\x1f", "")) for r, n in (a, b)
    )
    assert (task_id(ref_a, kind="k", generation=1) == task_id(ref_b, kind="k", generation=1)) == (ref_a == ref_b)


@given(number=st.text(min_size=1, max_size=80))
def test_every_issue_has_a_branch_that_is_inert(number: str) -> None:
    """Whatever a forge calls its issue, the branch is safe in an argument list."""
    branch = branch_name(replace(REF, number=number))
    assert is_safe_branch(branch)
    assert re.fullmatch(r"tamma/[a-z0-9._-]+", branch)


@pytest.mark.parametrize(
    ("number", "slug"),
    [
        ("PROJ-7", "proj-7"),
        ("a b/c", "a-b-c"),
        ("a  b", "a-b"),
        ("a..b", "a-b"),
        ("x.lock", "x.lock"),
        ("-7.", "7"),
        ("%", "issue"),
        ("a" * 49, "a" * 48),
    ],
)
def test_a_number_that_was_made_harmless_carries_its_hash(number: str, slug: str) -> None:
    """Sixteen digits of its SHA-256; one that is harmless as it is stays as it is."""
    assert issue_key(replace(REF, number=number)) == f"{slug}-{hashlib.sha256(number.encode()).hexdigest()[:16]}"
    assert issue_key(replace(REF, number="a_1.b-2")) == "a_1.b-2"
    assert issue_key(replace(REF, number="a" * 48)) == "a" * 48


@given(a=st.text(min_size=1, max_size=60), b=st.text(min_size=1, max_size=60))
def test_two_issues_never_share_a_branch(a: str, b: str) -> None:
    """A number that had to be changed carries its hash."""
    assert (issue_key(replace(REF, number=a)) == issue_key(replace(REF, number=b))) == (a == b)


HOSTILE = [
    "", "main", "refs/heads/main", "tamma/", "tamma/../main", "tamma/a..b", "tamma/x.lock", "tamma/x.lock/y", "tamma/.x", "tamma/a/.x",
    "tamma/-x", "-x", "--upload-pack=x", "tamma/a b", "tamma/a\n", "tamma/a\0b", "tamma/@{", "tamma/$(id)", "tamma/a//b",
    "tamma/a/", "tamma/a.", "tamma/\u202ea", "tamma/" + "a" * 82, "TAMMA/a", "tamma/A", "tamma/a~1", "tamma/a^", "tamma/a:b",
    "tamma/a?", "tamma/a*", "tamma/[a", "tamma/a\\b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_branch_name_is_refused(name: str) -> None:
    """The corpus of SECURITY C4."""
    assert not is_safe_branch(name)


@pytest.mark.parametrize("name", ["tamma/1", "tamma/a.b", "tamma/a/b", "tamma/a_b-c", "tamma/" + "a" * 81])
def test_a_harmless_branch_name_is_taken(name: str) -> None:
    """Also the longest one."""
    assert is_safe_branch(name)


@given(rest=st.from_regex(r"[a-z0-9._/-]{1,40}", fullmatch=True))
def test_what_we_accept_git_accepts(rest: str) -> None:
    """git's own check-ref-format is the oracle."""
    name = f"tamma/{rest}"
    if is_safe_branch(name):
        assert subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False).returncode == 0


@pytest.mark.parametrize(
    "text", ["", "x", "123", "8B1DA09B", "{8b1da09b-7b65-59c8-a9f1-0e6b1a2a94bb}", "$(id)", "../x"]
)
def test_a_malformed_task_id_is_a_usage_error(text: str) -> None:
    """Exit 2, not 3."""
    with pytest.raises(ConfigError):
        parse_task_id(text)


def test_a_task_id_is_read_in_either_case() -> None:
    """And is the same."""
    task = task_id(REF, kind="resolve", generation=1)
    assert parse_task_id(task) == parse_task_id(task.upper()) == task


@pytest.mark.parametrize(("text", "number"), [("demo#7", "7"), ("a/b#12", "12"), ("7", "7")])
def test_an_issue_is_named_as_people_write_it(text: str, number: str) -> None:
    """repository#number, or the number alone where there is one repository."""
    assert IssueRef.parse(text, forge="f", repository="demo").number == number


@pytest.mark.parametrize("text", ["", "#", "demo#", "#7x y", "a b#1", "demo#1\n", "7", "demo#\x01", "demo#\u202e1"])
def test_a_malformed_issue_reference_is_a_usage_error(text: str) -> None:
    """Exit 2, and it says how to write one."""
    with pytest.raises(ConfigError):
        IssueRef.parse(text, forge="f", repository=None)
