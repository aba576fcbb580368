"""The tree audit, one test per rule (SECURITY C5): what is odd and new is refused, what the base holds is not blamed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tamma.adapters.git.audit import clashes, link_trouble, modules_trouble, name_trouble, show
from tamma.core.ids import BLOB_BYTES_MAX
from tamma.core.policy import ChangePolicy
from tests.adapters.git.conftest import World, git

ODD_NAMES: dict[str, tuple[bytes, str]] = {
    "newline": (b"a\nb", "control"),
    "escape": (b"a\x1b[2Jb", "control"),
    "right-to-left": (b"a\xe2\x80\xaegpj.sh", "direction"),
    "zero width": (b"a\xe2\x80\x8bb", "invisible"),
    "not UTF-8": (b"a\xffb", "not UTF-8"),
    ".git with a blank": (b".git ", "git's own"),
    ".git with a dot": (b".git.", "git's own"),
    ".git with an invisible": (b".git\xe2\x80\x8c", "invisible"),
    "NTFS short name": (b"git~1", "git's own"),
    "NTFS stream": (b".git::$INDEX_ALLOCATION", "git's own"),
    "backslash": (b"x\\.git\\config", "git's own"),
    "backslash up": (b"..\\x", "git's own"),
    ".gitmodules in capitals": (b".GITMODULES", "git's own"),
    ".gitattributes with a blank": (b".gitattributes ", "git's own"),
    "full-width": (b"\xef\xbc\x8egit", "git's own"),
}


@pytest.mark.parametrize("kind", ODD_NAMES)
@pytest.mark.parametrize("as_folder", [False, True])
def test_odd_names_are_refused(world: World, kind: str, as_folder: bool) -> None:
    """A name that hides, misleads or means something to git elsewhere is refused, as a file and as a folder."""
    name, why = ODD_NAMES[kind]
    ws = world.open()
    place = Path(os.fsdecode(os.fsencode(ws.folder / "src") + b"/" + name))
    if as_folder:
        place.mkdir()
        place = place / "config"
    place.write_text("x")
    candidate = ws.capture(message="m")
    assert len(candidate.refusals) == 1
    assert why in candidate.refusals[0]
    assert candidate.refusals[0].isprintable()
    assert candidate.tree == ws.base.tree
    assert not candidate.is_empty


LINKS: dict[str, str | None] = {
    "/etc/passwd": "absolute",
    "/": "absolute",
    "C:\\x": "absolute",
    "../../x": "leaves",
    "../..": "leaves",
    "../../../../../../../../etc": "leaves",
    "a/../../x": "middle",
    ".git/config": "git's own",
    "../.GIT": "git's own",
    "../.git./hooks": "git's own",
    "a\nb": "unreadable",
    "..": None,
    "../x": None,
    "app.py": None,
    "./app.py": None,
    "nowhere": None,
}


@pytest.mark.parametrize("target", LINKS)
def test_links_out_of_the_tree_are_refused(world: World, target: str) -> None:
    """A link may only point below the repository's root, and not into git's files."""
    ws = world.open()
    (ws.folder / "src/link").symlink_to(target)
    candidate = ws.capture(message="m")
    wanted = LINKS[target]
    if wanted is None:
        assert candidate.refusals == ()
        assert [c.new_mode for c in candidate.changes] == ["120000"]
    else:
        assert wanted in candidate.refusals[0]
        assert candidate.tree == ws.base.tree


def test_links_cannot_leave_by_way_of_another_link() -> None:
    """``..`` after a name could be counted from wherever a link of that name leads."""
    assert link_trouble(b"deep/e/l", b"d/../../x") is not None
    assert link_trouble(b"deep/e/l", b"../../x") is None


@pytest.mark.parametrize("name", [".gitmodules", ".gitattributes", ".gitignore"])
def test_files_that_git_reads_are_no_links(world: World, name: str) -> None:
    """Git would read its rules from wherever the link leads."""
    ws = world.open()
    (ws.folder / name).unlink(missing_ok=True)
    (ws.folder / name).symlink_to("README.md")
    assert "git reads" in ws.capture(message="m").refusals[0]


def test_special_files_are_refused_and_never_opened(world: World) -> None:
    """A pipe would block, a socket fail; also in the place of a tracked file."""
    ws = world.open()
    os.mkfifo(ws.folder / "pipe")
    (ws.folder / "README.md").unlink()
    os.mkfifo(ws.folder / "README.md")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(ws.folder, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
        candidate = ws.capture(message="m")
    assert sorted(r.split()[0] for r in candidate.refusals) == ["README.md", "pipe", "socket"]
    assert candidate.tree == ws.base.tree


def test_special_files_among_ignored_ones_do_not_matter(world: World) -> None:
    """What is not delivered is not audited."""
    ws = world.open()
    (ws.folder / "build").mkdir()
    os.mkfifo(ws.folder / "build/pipe")
    os.mkfifo(ws.folder / "a.log")
    assert ws.capture(message="m").is_empty


def test_setuid_is_refused(world: World) -> None:
    """A file set to run as somebody else is refused."""
    ws = world.open()
    (ws.folder / "README.md").chmod(0o4755)
    assert "setuid" in ws.capture(message="m").refusals[0]


def test_names_that_clash_where_case_is_ignored(world: World) -> None:
    """A new path that another machine could not hold beside an old one is refused; a rename is not."""
    ws = world.open()
    (ws.folder / "readme.MD").write_text("x")
    assert "clashes with README.md" in ws.capture(message="m").refusals[0]
    (ws.folder / "README.md").unlink()
    assert ws.capture(message="m").refusals == ()


def test_names_that_clash_where_accents_are_normalised() -> None:
    """Composed and decomposed forms, files against folders."""
    composed, decomposed = b"caf\xc3\xa9", b"cafe\xcc\x81"
    assert len(clashes([composed], [composed, decomposed])) == 1
    assert len(clashes([b"Lib/b"], [b"lib/a", b"Lib/b"])) == 1
    assert clashes([b"lib/b"], [b"lib/a", b"lib/b"]) == []


def test_oddities_of_the_base_are_not_blamed(world: World) -> None:
    """What the base holds already, unchanged, is nobody's fault; changing it is."""
    for name, target in (("out", "/etc"), ("up", "../../x")):
        (world.author / name).symlink_to(target)
    modules = b'[submodule "x"]\n\tpath = p\n\turl = ./u\n'
    world.commit({b"a\xe2\x80\xaeb".decode(): b"x", "Case": b"1", "case": b"2", ".gitmodules": modules})
    ws = world.open()
    (ws.folder / "README.md").write_text("changed\n")
    candidate = ws.capture(message="m")
    assert candidate.refusals == ()
    assert [c.path for c in candidate.changes] == ["README.md"]
    (ws.folder / "out").unlink()
    (ws.folder / "out").symlink_to("/root")
    assert "absolute" in ws.capture(message="m").refusals[0]


@pytest.mark.parametrize(
    ("text", "is_odd"),
    [
        (b'[submodule "a"]\n\tpath = lib\n\turl = https://example.org/a.git\n', False),
        (b'[submodule "a"]\n\tpath = -u./x\n\turl = x\n', True),
        (b'[submodule "a"]\n\turl = --upload-pack=x\n', True),
        (b'[submodule "a"]\n\turl = ext::sh\n', True),
        (b'[submodule "a"]\n\tupdate = !id\n', True),
        (b'[submodule "../../x"]\n\turl = y\n', True),
        (b'[submodule "a"]\n\tpath = "x\r"\n', True),
    ],
)
def test_gitmodules_content(text: bytes, is_odd: bool) -> None:
    """Values that git has taken for options and commands are refused."""
    assert (modules_trouble(text) is not None) is is_odd


def test_odd_gitmodules_in_the_tree_are_refused(world: World) -> None:
    """The rule is applied where it counts."""
    ws = world.open()
    (ws.folder / ".gitmodules").write_text('[submodule "a"]\n\tpath = a\n\turl = -x\n')
    assert "submodule url" in ws.capture(message="m").refusals[0]


@pytest.mark.parametrize(("size", "refused"), [(1_000, False), (1_001, True)])
def test_big_files(make_world: Callable[..., World], size: int, refused: bool) -> None:
    """The cap on one file, exactly."""
    world = make_world({"a": b"1"}, policy=ChangePolicy(file_bytes_max=1_000))
    ws = world.open()
    (ws.folder / "new").write_bytes(b"x" * size)
    candidate = ws.capture(message="m")
    assert bool(candidate.refusals) is refused
    assert (candidate.tree == ws.base.tree) is refused


def test_sparse_giant_is_not_read(world: World) -> None:
    """A file of a terabyte costs nothing."""
    ws = world.open()
    with (ws.folder / "giant").open("wb") as file:
        file.truncate(1 << 40)
    assert "bytes; a changed file may have" in ws.capture(message="m").refusals[0]


def test_big_files_of_the_base_may_stay(make_world: Callable[..., World]) -> None:
    """Only changed ones count."""
    world = make_world({"asset": b"x" * 5_000, "a": b"1"}, policy=ChangePolicy(file_bytes_max=1_000))
    ws = world.open()
    assert ws.capture(message="m").is_empty
    (ws.folder / "asset").write_bytes(b"y" * 5_000)
    assert "asset" in ws.capture(message="m").refusals[0]
    (ws.folder / "asset").unlink()
    assert ws.capture(message="m").refusals == ()


def test_one_binary_too_many_is_told_in_the_singular(make_world: Callable[..., World]) -> None:
    """1 file, not 1 files."""
    ws = make_world({"a": b"1"}, policy=ChangePolicy(binaries_max=0)).open()
    (ws.folder / "b").write_bytes(b"\0" + os.urandom(100))
    assert ws.capture(message="m").refusals == ("the change holds 1 binary file; 0 are allowed",)


def test_caps_on_entries_binaries_and_bytes(make_world: Callable[..., World]) -> None:
    """Too many entries, too many binary files, too big a difference: each is a sentence."""
    policy = ChangePolicy(binaries_max=2, bytes_max=20_000)
    world = make_world({"a": b"1"}, policy=policy, entries_max=40)
    ws = world.open()
    for n in range(3):
        (ws.folder / f"b{n}").write_bytes(b"\0" + os.urandom(100))
    assert any("3 binary files" in r for r in ws.capture(message="m").refusals)
    (ws.folder / "b0").write_bytes(b"\0" + os.urandom(30_000))
    assert any("difference has" in r for r in ws.capture(message="m").refusals)
    (ws.folder / "b1").write_bytes(b"\0" + os.urandom(60_000))
    assert any("changed files hold more" in r for r in ws.capture(message="m").refusals)
    for n in range(50):
        (ws.folder / f"c{n}").write_text("x")
    candidate = ws.capture(message="m")
    assert any("more than 40 entries" in r for r in candidate.refusals)
    assert not any(c.status == "D" for c in candidate.changes)


def test_a_difference_that_no_blob_can_keep_is_refused_and_brings_no_patch(make_world: Callable[..., World]) -> None:
    """The old content of a deleted file is in the difference too, and no cap on what is written bounds it."""
    ws = make_world({"a": b"1", "asset": os.urandom(BLOB_BYTES_MAX - 1_000_000)}).open()
    (ws.folder / "asset").unlink()
    candidate = ws.capture(message="m")
    assert [r for r in candidate.refusals if "too big" in r], candidate.refusals
    assert candidate.patch == b""


def test_refusals_are_bounded(world: World) -> None:
    """A thousand odd names do not make a thousand sentences."""
    ws = world.open()
    for n in range(200):
        (ws.folder / f"a\t{n}").write_text("x")
    assert ws.capture(message="m").refusals[-1] == "and 150 more"


def test_depth_is_bounded(world: World) -> None:
    """Folders nested without end are refused, not followed."""
    ws = world.open()
    place = ws.folder
    for _ in range(150):
        place = place / "d"
        place.mkdir()
    (place / "file").write_text("x")
    assert "nested deeper" in ws.capture(message="m").refusals[0]


def test_nested_repository_gives_files_and_no_gitlink(world: World) -> None:
    """A clone inside the tree is delivered as files, without its .git."""
    ws = world.open()
    git("init", "--quiet", ws.folder / "inner", cwd=ws.folder)
    (ws.folder / "inner/code.py").write_text("x\n")
    changes = ws.capture(message="m").changes
    assert [(c.path, c.new_mode) for c in changes] == [("inner/code.py", "100644")]


def test_linked_folder_is_not_followed(world: World) -> None:
    """A tracked folder swapped for a link to elsewhere is a refusal; the files behind it are never read."""
    ws = world.open()
    outside = world.tmp / "outside"
    (ws.folder / "src").rename(outside)
    (outside / "secret").write_text("secret\n")
    (ws.folder / "src").symlink_to(outside)
    candidate = ws.capture(message="m")
    assert "absolute" in candidate.refusals[0]
    assert b"secret" not in candidate.patch


def test_names_shown_cannot_write_to_a_terminal() -> None:
    """Whatever a path holds, its shown form is printable; ordinary names of any language are welcome."""
    assert show(b"a\x1b[2J\xff\n").isprintable()
    assert name_trouble(b"na\xc3\xafve file (1).txt") is None
    assert name_trouble(b"\xe6\x97\xa5\xe6\x9c\xac.txt") is None
