"""Issue files as people write them: what is tolerated, what is refused and how, and what a rewrite leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.adapters.forges import document as documents
from tamma.adapters.forges.document import FILE_BYTES_MAX, BadDocument, Value
from tamma.core.errors import ConfigError, PermanentError
from tamma.core.issue import IssueState
from tests.contracts.test_local_forge import LocalWorld
from tests.support.issue_files import issue_document, write_issue

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(10))}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
BROKEN: dict[str, tuple[str | None, str | None]] = {
    "no list end": ("title: [\n", "line "), "not closed": (None, "line 1: the front matter is never closed"),
    "a list": ("- title\n", "line 2"), "twice": ("title: a\nlabels: b\ntitle: c\n", "line 4: the key 'title'"),
    "state": ("title: a\nstate: wontfix\n", "write one of open, closed"), "date": ("created_at: soon\n", "2026-01-31"),
    "labels": ("labels: {a: b}\n", "`labels` must be"), "nested": ("labels: [[a]]\n", "`labels` must be"),
    "blocker": ("blocked_by: [../1]\n", "'../1'"), "bomb": (BOMB, "smaller"),
    "deep": ("a: " + "[" * 5000, "line "), "itself": ("a: &a [*a]\n", "line "), "nul": ("title: a\0b\n", "YAML"),
    "tab": ("title:\n\tx: y\n", "line 3"), "key": ("? [a]\n: b\n", "line 2"),
}  # fmt: skip


def put(world: LocalWorld, raw: str | bytes, number: str = "1") -> None:
    """A person saves a file."""
    (world.issues / f"{number}.md").write_bytes(raw.encode() if isinstance(raw, str) else raw)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_front_matter_is_told_with_file_and_cure(world: LocalWorld, kind: str) -> None:
    """And the issue beside it is served; asked for alone, it is a PermanentError that says the same."""
    head, said = BROKEN[kind]
    fine = world.create_issue()
    put(world, "---\ntitle: x\n" if head is None else f"---\n{head}\n---\nbody\n", "7")
    page = world.forge.open_issues("demo", label="tamma", limit=5)
    assert [i.ref for i in page.issues] == [fine]
    (malformed,) = page.malformed
    assert malformed.ref == world.ref("7")
    assert f"{world.issues}/7.md" in malformed.why
    assert said is None or said in malformed.why
    with pytest.raises(PermanentError) as caught:
        world.forge.issue(world.ref("7"))
    assert caught.value.why == malformed.why


@pytest.mark.parametrize(
    "raw",
    [
        b"---\ntitle: T\nlabels: [Tamma]\n---\nB", b"---\r\ntitle: T\r\nlabels: Tamma , x\r\n---\r\nB",
        b"\xef\xbb\xbf---\ntitle: T\nlabels:\n- TAMMA\n---\n\nB", b"\n\n--- \nlabels: tamma\ntitle: 'T'\nauthor:\nstate: Open\n...\nB",
        b"---\ntitle: T\nlabels: [tamma]\nblocked_by: 9\ncreated_at: 2026-01-01 10:00:00\ncomments:\n- hello\n---\nB",
    ],
)  # fmt: skip
def test_what_is_unambiguous_is_understood(world: LocalWorld, raw: bytes) -> None:
    """Any case of labels, a comma list, BOM, CRLF, empty lines first, missing author and state."""
    put(world, raw)
    (issue,) = world.forge.open_issues("demo", label="tamma", limit=5).issues
    assert (issue.title, issue.body, issue.author, issue.state) == ("T", "B", "unknown", IssueState.OPEN)
    world.forge.change_labels(issue.ref, add=["y"], remove=[])
    assert world.forge.issue(issue.ref).body == "B"
    assert world.file(issue.ref).read_bytes().endswith(b"B")


def test_the_first_heading_is_the_title_if_none_is_given(world: LocalWorld) -> None:
    """Not a line of code that looks like one; without either, the file is malformed."""
    put(world, "---\nlabels: tamma\n---\n```sh\n# not this\n```\n# This one #\n")
    put(world, "---\nlabels: tamma\n---\nnothing\n", "2")
    page = world.forge.open_issues("demo", label="tamma", limit=5)
    assert [i.title for i in page.issues] == ["This one"]
    assert ["no title" in m.why for m in page.malformed] == [True]


def test_text_that_looks_like_another_type_stays_text(world: LocalWorld) -> None:
    """1.10 is not 1.1, no is not false, a date is not a date."""
    put(world, "---\ntitle: 1.10\nlabels: [no, 1e3]\nauthor: 2026-01-01\nassignees: [0x10]\n---\n")
    issue = world.forge.issue(world.ref("1"))
    assert (issue.title, issue.author, *issue.assignees) == ("1.10", "2026-01-01", "0x10")
    assert issue.labels == {"no", "1e3"}


def test_a_rewrite_changes_what_it_must_and_nothing_else(world: LocalWorld) -> None:
    """Remarks, unknown keys, their order and types, quoting, comments' own keys, the body's bytes, the mode."""
    raw = (
        b"---\n# remark one\ntitle: 'Q'   # why\nweird: {a: 1, b: [yes, ~]}\nlabels: tamma\n\n# remark two\nzeta: &z 0x1F\n"
        b"comments:\n- body: |\n    multi\n    line\n  mood: good\nalpha: *z\n---\nbody \xff\r\n\0"
    )
    put(world, raw)
    file = world.issues / "1.md"
    file.chmod(0o640)
    world.forge.change_labels(world.ref("1"), add=["Bug"], remove=["absent"])
    assert file.read_bytes() == raw.replace(b"labels: tamma", b"labels: [tamma, bug]")
    world.forge.comment(world.ref("1"), marker="<!-- m -->", body="one\n\ntwo\n<!-- m -->\n")
    after = file.read_bytes()
    assert after.split(b"comments:")[0] == raw.replace(b"labels: tamma", b"labels: [tamma, bug]").split(b"comments:")[0]
    assert after.endswith(b"alpha: *z\n---\nbody \xff\r\n\0")
    assert b"- body: |\n    multi\n    line\n  mood: good\n- id: '2'\n  author: tamma\n" in after
    assert b"  body: |\n    one\n\n    two\n    <!-- m -->\n" in after
    assert file.stat().st_mode & 0o777 == 0o640


def test_what_needs_no_change_is_not_written(world: LocalWorld) -> None:
    """The file is the very same one."""
    ref = world.create_issue()
    world.forge.comment(ref, marker="<!-- m -->", body="<!-- m -->")
    before = world.file(ref).stat().st_ino
    world.forge.comment(ref, marker="<!-- m -->", body="other <!-- m -->")
    world.forge.change_labels(ref, add=["TAMMA"], remove=["none"])
    assert world.file(ref).stat().st_ino == before


def test_a_file_too_large_is_not_read(world: LocalWorld) -> None:
    """It is malformed, and a write that would make one is refused."""
    with (world.issues / "3.md").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    assert "larger" in world.forge.open_issues("demo", label="tamma", limit=5).malformed[0].why
    ref = world.create_issue(body="x" * (FILE_BYTES_MAX - 200))
    before = world.file(ref).read_bytes()
    with pytest.raises(PermanentError):
        world.forge.comment(ref, marker="<!-- m -->", body="<!-- m -->" * 100)
    assert world.file(ref).read_bytes() == before
    assert sorted(p.name for p in world.issues.iterdir()) == ["3.md", "4.md"]


@pytest.mark.parametrize("kind", ["outside", "inside", "dangling", "fifo", "folder"])
def test_only_regular_files_are_issues(world: LocalWorld, tmp_path: Path, kind: str) -> None:
    """A link is not followed, a pipe does not hang; each is malformed and harms no other."""
    fine = world.create_issue()
    secret = tmp_path / "secret.md"
    secret.write_text("---\ntitle: s\nlabels: tamma\n---\n", encoding="utf-8")
    odd = world.issues / "9.md"
    match kind:
        case "fifo":
            os.mkfifo(odd)
        case "folder":
            odd.mkdir()
        case _:
            odd.symlink_to({"outside": secret, "inside": world.file(fine), "dangling": tmp_path / "x"}[kind])
    page = world.forge.open_issues("demo", label="tamma", limit=5)
    assert [i.ref for i in page.issues] == [fine]
    assert [m.ref for m in page.malformed] == [world.ref("9")]
    with pytest.raises(PermanentError):
        world.forge.comment(world.ref("9"), marker="m", body="m")
    assert "comments" not in secret.read_text(encoding="utf-8")


def test_other_files_in_the_folder_are_ignored(world: LocalWorld) -> None:
    """Editors' backups and temporary files, hidden ones, and names that are no numbers."""
    ref = world.create_issue()
    names = [
        ".1.md.swp",
        "1.md~",
        "#1.md#",
        ".#1.md",
        ".hidden.md",
        "1.orig.md",
        "1.txt",
        "a b.md",
        ".1.tamma-tmp",
        "-1.md",
    ]
    for name in names:
        (world.issues / name).write_bytes(b"---\nbroken: [\n---\n")
    page = world.forge.open_issues("demo", label="tamma", limit=5)
    assert ([i.ref for i in page.issues], page.malformed) == ([ref], ())


def test_undated_issues_go_by_natural_number(world: LocalWorld) -> None:
    """2 before 10, and Tamma's own writing does not change the order."""
    for number in ("10", "2", "A-10", "A-9"):
        put(world, "---\ntitle: t\nlabels: tamma\n---\n", number)
    world.forge.change_labels(world.ref("2"), add=["x"], remove=[])
    page = world.forge.open_issues("demo", label="tamma", limit=5)
    assert [i.ref.number for i in page.issues] == ["2", "10", "A-9", "A-10"]


def test_write_issue_never_replaces(world: LocalWorld) -> None:
    """A taken number and one that is no file name are refused."""
    document = issue_document(title="t")
    assert write_issue(world.issues, document, number="5").name == "5.md"
    assert write_issue(world.issues, document).name == "6.md"
    for number in ("5", "../x", "a/b", "", ".", "a\0"):
        with pytest.raises(ConfigError):
            write_issue(world.issues, document, number=number)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["---", "a\n---\nb\n", "\n x\n  y", " ", "|", "\ta\n"]
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    TEXTS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(
    values=st.dictionaries(TEXTS, VALUES, max_size=5),
    body=TEXTS,
    key=TEXTS,
    value=VALUES,
    items=st.lists(VALUES, max_size=2),
)
def test_what_is_written_is_read_again(
    values: dict[str, Value], body: str, key: str, value: Value, items: list[Value]
) -> None:
    """Every key and value in order, whatever it looks like; setting one and appending to another keeps the rest."""
    document = documents.parse(documents.new(values, body).raw)
    assert (dict(document.values), list(document.values), document.text) == (values, list(values), body)
    changed = documents.with_value(document, key, value)
    for item in items:
        changed = documents.with_item(changed, "the list", item)
    again = documents.parse(changed.raw)
    expected = {**values, key: value}
    if items:
        before = expected.get("the list")
        expected["the list"] = [*(before if isinstance(before, list) else []), *items]
    assert (dict(again.values), list(again.values), again.body) == (expected, list(expected), document.body)


PIECES = st.sampled_from([b"---", b"\n", b"a: b", b"- ", b"[", b"\r\n", b" ", b"&a", b"*a", b"'"])


@given(raw=st.binary(max_size=60) | st.lists(PIECES).map(b"".join))
def test_any_bytes_are_a_document_or_a_bad_one(raw: bytes) -> None:
    """Never another error; and unedited they come back."""
    try:
        document = documents.parse(raw)
    except BadDocument:
        return
    assert document.raw == raw
    assert documents.parse(documents.with_value(document, "new key", "v").raw).body == document.body


def test_a_title_with_a_colon_is_told_how_to_be_written() -> None:
    """The commonest of mistakes in front matter gets its own cure."""
    with pytest.raises(BadDocument, match="put a value that holds ': ' into quotes"):
        documents.parse(b"---\ntitle: fix: the sum\n---\nbody\n")
    assert documents.parse(b"---\ntitle: 'fix: the sum'\n---\nbody\n").values["title"] == "fix: the sum"
