"""Git-dirs written by hand: no template, no child process, nothing in them but what stands here."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

from tamma.ports.workspace import Base

# Bytes exactly as committed, whatever .gitattributes says: info/attributes beats every other source. ``diff`` is left
# unspecified, since ``-diff`` would make every file binary.
_ATTRIBUTES: Final = (
    "* -text -crlf -eol -ident -filter -working-tree-encoding -export-subst -export-ignore -merge !diff !whitespace\n"
)
_AGENT_NAME: Final = "agent"


def write_trusted(git_dir: Path, *, objects: Path, oid: str) -> None:
    """A bare git-dir of our own that borrows the objects of a mirror; ``oid`` is any name in the repository's format."""
    _write(git_dir, objects=objects, oid=oid, head="refs/heads/none", config="\tbare = true\n")
    harden(git_dir)


def seal(git_dir: Path, *, objects: Path, oid: str) -> None:
    """Write again what decides how git behaves here, should an agent without a sandbox have found the folder."""
    drop_traps(git_dir)
    for name in ("config.worktree", "commondir", "info/grafts", "gitdir"):
        (git_dir / name).unlink(missing_ok=True)
    _write_settings(git_dir, objects=objects, oid=oid, head="refs/heads/none", config="\tbare = true\n")
    harden(git_dir)


def harden(git_dir: Path) -> None:
    """Give a repository of ours the attributes that keep filters and drivers away."""
    info = git_dir / "info"
    info.mkdir(exist_ok=True)
    _write_file(info / "attributes", _ATTRIBUTES)


def rescuable(git_dir: Path, *, oid: str) -> None:
    """Make a repository that an agent may have broken readable once more, so that git can take out what it still holds."""
    drop_traps(git_dir)
    if not all(is_regular(git_dir / name) for name in ("HEAD", "config")):
        _write_settings(git_dir, oid=oid, head="refs/heads/none", config="\tbare = true\n")


def is_regular(path: Path) -> bool:
    """Whether a file is there, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there, and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def traps(folder: Path) -> Iterator[Path]:
    """What is neither a file nor a folder (a FIFO, a link, a device): git would open it, and wait for ever or be led away.

    Another process may work here: a folder that went meanwhile holds none.
    """
    todo: list[Path] = [folder]
    while todo:
        place = todo.pop()
        with suppress(FileNotFoundError) if place != folder else nullcontext(), os.scandir(place) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def drop_traps(folder: Path) -> None:
    """Remove them; git itself makes none in a repository of ours."""
    for trap in list(traps(folder)):
        trap.unlink(missing_ok=True)


def write_disposable(git_dir: Path, *, objects: Path, base: Base, index: Path, excludes: tuple[str, ...]) -> None:
    """The agent's ``.git``: the base's branch and history, our index; never read again by us.

    It borrows the mirror's objects, so that it costs nothing; whatever git writes there goes into its own folder.
    """
    config = f"\tbare = false\n[user]\n\tname = {_AGENT_NAME}\n\temail = {_AGENT_NAME}@localhost\n[gc]\n\tauto = 0\n"
    _write(git_dir, objects=objects, oid=base.commit, head=f"refs/heads/{base.branch}", config=config)
    (git_dir / "packed-refs").write_text(f"{base.commit} refs/heads/{base.branch}\n")
    (git_dir / "info").mkdir()
    (git_dir / "info" / "exclude").write_text("".join(f"{name}\n" for name in excludes))
    shutil.copyfile(index, git_dir / "index")


def _write(git_dir: Path, *, objects: Path, oid: str, head: str, config: str) -> None:
    for folder in ("objects/info", "objects/pack", "refs/heads"):
        (git_dir / folder).mkdir(parents=True)
    _write_settings(git_dir, objects=objects, oid=oid, head=head, config=config)


def _write_settings(git_dir: Path, *, oid: str, head: str, config: str, objects: Path | None = None) -> None:
    is_sha256 = len(oid) == 64
    core = f"[core]\n\trepositoryformatversion = {int(is_sha256)}\n\tfilemode = true\n{config}"
    _write_file(git_dir / "config", core + ("[extensions]\n\tobjectformat = sha256\n" if is_sha256 else ""))
    _write_file(git_dir / "HEAD", f"ref: {head}\n")
    if objects is not None:
        _write_file(git_dir / "objects" / "info" / "alternates", f"{objects}\n")


def _write_file(path: Path, text: str) -> None:
    """A new file in place of whatever is there: writing into it could wait for a reader, or follow a link."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
