"""What anybody who may comment or file an issue can put into the files, and the loop must survive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tamma.adapters.forges.document import BadDocument, parse
from tamma.adapters.forges.local import LocalForge, LocalRepository
from tamma.core.change import ChangeDraft
from tamma.core.errors import TransientError
from tamma.core.ids import IssueRef
from tests.support.few_files import files_left

BOMBS = {
    "brackets": "a: " + "[" * 60_000,
    "dashes": "- " * 200_000,
    "questions": "? " * 100_000,
    "braces": "{a: " * 100_000,
    "many": "a: [" + "x," * 2_000_000 + "]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_front_matter_of_any_depth_is_refused_and_kills_nobody(name: str) -> None:
    """In a child, since libyaml's composer recurses in C: before, this process died of it."""
    code = "import sys; from tamma.adapters.forges.document import BadDocument, parse\ntry: parse(sys.stdin.buffer.read())\nexcept BadDocument: print('refused')"
    raw = f"---\n{BOMBS[name]}\n---\nbody\n".encode()
    child = subprocess.run([sys.executable, "-c", code], input=raw, capture_output=True, check=False, timeout=60)
    assert (child.returncode, child.stdout) == (0, b"refused\n")


def test_sixteen_levels_are_still_fine() -> None:
    """The bound is the documented one."""
    assert parse(("---\na: " + "[" * 14 + "]" * 14 + "\n---\n").encode()).values
    with pytest.raises(BadDocument):
        parse(("---\na: " + "[" * 18 + "]" * 18 + "\n---\n").encode())


def a_forge(root: Path) -> LocalForge:
    """One repository with an issue."""
    (root / "issues").mkdir()
    (root / "changes").mkdir()
    (root / "repo.git").mkdir()
    repository = LocalRepository(
        name="demo", git_url=str(root / "repo.git"), issues=root / "issues", changes=root / "changes", base_branch=None
    )
    return LocalForge(name="local", user="tamma", repositories=[repository])


REF = IssueRef(forge="local", repository="demo", number="1")


def test_a_process_without_files_left_is_no_trouble_of_the_issue(tmp_path: Path) -> None:
    """The forge is away for it, and the issue neither skipped as broken nor handed back."""
    forge = a_forge(tmp_path)
    (tmp_path / "issues" / "1.md").write_text("---\ntitle: x\nlabels: [tamma]\n---\nbody\n")
    with files_left(1), pytest.raises(TransientError, match="Too many open files"):
        forge.issue(REF)
    assert forge.issue(REF).title == "x"


def test_a_comment_with_an_endless_id_does_not_keep_us_from_commenting(tmp_path: Path) -> None:
    """Python refuses to read a number of 5,000 digits; somebody's comment must not be our bug."""
    forge = a_forge(tmp_path)
    comments = f"comments: [{{id: '{'9' * 5000}', author: bob, body: hi}}]"
    (tmp_path / "issues" / "1.md").write_text(f"---\ntitle: x\nlabels: [tamma]\n{comments}\n---\nbody\n")
    assert forge.comment(REF, marker="<!-- m -->", body="told").id == "2"


def test_a_stray_change_number_does_not_stop_deliveries(tmp_path: Path) -> None:
    """Whoever puts 9999999999.md there does not choose our next number."""
    forge = a_forge(tmp_path)
    (tmp_path / "issues" / "1.md").write_text("---\ntitle: x\nlabels: [tamma]\n---\nbody\n")
    (tmp_path / "changes" / "9999999999.md").write_text(
        "---\ntitle: x\nhead: other\nbase: main\nauthor: bob\nstate: open\n---\n"
    )
    draft = ChangeDraft(repository="demo", head="tamma/1", base="main", title="t", body="b", issue=REF)
    assert forge.open_change(draft).id == "1"


@pytest.mark.parametrize("bad", ["{id: 1, author: a, created_at: 2026-99-99, body: x}", "{id: 1, body: [x]}"])
def test_an_issue_that_cannot_be_told_is_malformed_before_anybody_works_on_it(tmp_path: Path, bad: str) -> None:
    """Its comments cannot be read, so its task's end could never be written among them."""
    forge = a_forge(tmp_path)
    (tmp_path / "issues" / "1.md").write_text(f"---\ntitle: x\nlabels: [tamma]\ncomments: [{bad}]\n---\nbody\n")
    page = forge.open_issues("demo", label="tamma", limit=9)
    assert (page.issues, [found.ref for found in page.malformed]) == ((), [REF])
    assert "comment 1" in page.malformed[0].why
