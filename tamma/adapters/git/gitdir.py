"""Git-dirs written by hand: no template, no child process, nothing in them but what stands here."""

from __future__ import annotations

import shutil
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
    for name in ("config.worktree", "commondir", "info/grafts", "gitdir"):
        (git_dir / name).unlink(missing_ok=True)
    _write_settings(git_dir, objects=objects, oid=oid, head="refs/heads/none", config="\tbare = true\n")
    harden(git_dir)


def harden(git_dir: Path) -> None:
    """Give a repository of ours the attributes that keep filters and drivers away."""
    info = git_dir / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text(_ATTRIBUTES)


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


def _write_settings(git_dir: Path, *, objects: Path, oid: str, head: str, config: str) -> None:
    is_sha256 = len(oid) == 64
    core = f"[core]\n\trepositoryformatversion = {int(is_sha256)}\n\tfilemode = true\n{config}"
    (git_dir / "config").write_text(core + ("[extensions]\n\tobjectformat = sha256\n" if is_sha256 else ""))
    (git_dir / "HEAD").write_text(f"ref: {head}\n")
    (git_dir / "objects" / "info" / "alternates").write_text(f"{objects}\n")
