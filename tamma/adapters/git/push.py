"""Pushing one commit to one branch, by compare-and-swap at the remote (SECURITY C4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tamma.adapters.git.again import again
from tamma.adapters.git.command import Git, GitFailed, Output
from tamma.adapters.git.trouble import has_sick_disk, last_words, remote_error
from tamma.core.errors import PermanentError, RefusedByPolicy
from tamma.core.ids import Oid, is_safe_branch
from tamma.ports.workspace import PushResult

_OID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# The branch was elsewhere, or somebody else moved it in the same moment.
_LOST_RACE: Final = re.compile(
    r"stale info|fetch first|non-fast-forward|cannot lock ref|failed to update ref|reference already exists"
    r"|incorrect old value|needs force",
    re.IGNORECASE,
)
# The same words come from a remote that cannot write its refs: a lock that a killed git left, a full disk, somebody else's folder.
_UNWRITTEN: Final = re.compile(r"cannot lock ref|failed to update ref", re.IGNORECASE)
# Nobody moved our branch: a ref stands where its name needs a folder, or the other way about (refs/heads/tamma).
_BLOCKED: Final = re.compile(r"'(?P<ref>refs/[^'\s]+)' exists; cannot create '")


def push_commit(
    git: Git, url: str, commit: Oid, *, branch: str, expected: Oid | None, find_head: Callable[[], Oid | None]
) -> PushResult:
    """One exact argument list; ``git`` must already be able to reach the remote. ``find_head`` asks it where the branch is."""
    if not is_safe_branch(branch):
        raise RefusedByPolicy(f"branch {branch!r} is never pushed to", why="Tamma pushes to branches of its own only")
    assert _OID.fullmatch(commit), commit
    assert expected is None or _OID.fullmatch(expected), expected
    ref = f"refs/heads/{branch}"

    def push() -> tuple[Output, str, str]:
        try:
            said = git.run(
                "push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no",
                f"--force-with-lease={ref}:{expected or ''}", "--", url, f"{commit}:{ref}",
                ok=(0, 1),
            )  # fmt: skip
        except GitFailed as e:
            raise remote_error(e, doing=f"pushing {branch}") from e
        line = _status_line(said.stdout, ref)
        if line is None:
            raise remote_error(GitFailed(["push"], code=said.code, stderr=said.stderr), doing=f"pushing {branch}")
        return said, *line

    # A push whose answer was lost finds its own commit the next time, which git tells as "up to date".
    said, flag, summary = again(push, should_stop=git.should_stop)
    if flag == "=":
        return PushResult.ALREADY_THERE
    if flag != "!":
        return PushResult.MOVED
    is_where_expected = bool(_UNWRITTEN.search(summary)) and find_head() == expected
    return _judge_refusal(said, summary, branch=branch, is_where_expected=is_where_expected)


def _judge_refusal(said: Output, summary: str, *, branch: str, is_where_expected: bool) -> PushResult:
    """Rejected where somebody else was first; else raises what says who should act."""
    words = f"{summary}\n{said.stderr}"
    if blocking := _BLOCKED.search(words):
        raise PermanentError(
            f"{branch} cannot be made at the remote",
            why=f"{blocking['ref']} is there, and git keeps no branch below or above another's name",
            fix=f"rename or delete {blocking['ref']} at the remote, then `tamma task retry`",
        )
    failed = GitFailed(["push"], code=said.code, stderr=f"{said.stderr}\n{summary}")
    is_lost = not is_where_expected and bool(_LOST_RACE.search(summary))
    if is_where_expected or (has_sick_disk(failed) and not is_lost):
        raise remote_error(failed, doing=f"pushing {branch}")
    if is_lost:
        return PushResult.REJECTED
    raise PermanentError(
        f"the remote refused {branch}",
        why=last_words(words),
        fix="look at its hooks and branch protection; Tamma must be allowed to push to tamma/*",
    )


def _status_line(stdout: bytes, ref: str) -> tuple[str, str] | None:
    for line in stdout.decode(errors="replace").splitlines():
        flag, _, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        if names.endswith(f":{ref}"):
            return flag.strip(), summary
    return None
