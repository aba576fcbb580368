"""What git said, told as an error that says who should act."""

from __future__ import annotations

import re
from typing import Final

from tamma.adapters.git.command import GitFailed
from tamma.core.errors import PermanentError, TammaError, TransientError, of_os_error

_PERMANENT: Final = (
    (
        r"does not appear to be a git repository|repository .*not found|not found in upstream|error: 404|no such file",
        "check the repository's url in the configuration; a local one must be a git repository",
    ),
    (
        r"authentication failed|could not read (username|password)|permission denied|error: 40[13]|access denied|host key",
        "check the credentials that Tamma has for this repository",
    ),
    (r"dubious ownership", "let the user that runs Tamma own the repository"),
    (r"transport '.*' not allowed|unable to find remote helper", "use an https, ssh or file url"),
    (
        r"unable to update url base from redirection|redirect",
        "the repository has moved: put its new url in the configuration",
    ),
    (r"fsck error|error in object|invalid path", "the repository holds objects that git itself calls dangerous"),
)
# Git words it in its own way when a write comes up short ("Out of diskspace"), besides what the system says; of a file that it
# had opened and could not write to its end or close, it does not say why: that is the disk.
_DISK_FULL: Final = re.compile(r"no space left|out of disk ?space|disk quota|unable to write file", re.IGNORECASE)
# A disk there that cannot be written to; git does not always say why.
_DISK_SICK: Final = re.compile(
    r"read-only file system|unable to (create temporary|write|migrate)|input/output error", re.IGNORECASE
)
_LOCAL_DAMAGE: Final = re.compile(
    r"bad object|corrupt|not a git repository: |unable to read|missing blob|missing tree|missing commit|bad tree"
    r"|index file .* (?:is too small|smaller)|packfile .* (?:cannot be|truncated|claims)|bad config|unresolved delta"
    r"|cannot (?:read|open) .*pack|invalid sha1 pointer|bad ref|broken (?!pipe)|inflate|did not receive expected object|not a valid object|bad signature",
    re.IGNORECASE,
)


class RemoteAway(TransientError):
    """The remote did not answer, or broke off: the same call may succeed in a moment."""


def remote_error(failed: GitFailed, *, doing: str) -> TammaError:
    """A remote that is away is transient; one that will never have us is permanent."""
    text = failed.stderr.lower()
    why = last_words(failed.stderr)
    is_theirs = "remote" in text
    if _DISK_FULL.search(text):
        fix = "look at the disk of the remote" if is_theirs else "free some disk space"
        return TransientError(f"{doing} failed", why=why, fix=fix)
    for pattern, fix in _PERMANENT:
        if re.search(pattern, text):
            return PermanentError(f"{doing} failed", why=why, fix=fix)
    if _DISK_SICK.search(text):
        fix = "look at the disk of the remote" if is_theirs else "look at the disk of Tamma's state folder"
        return TransientError(f"{doing} failed", why=why, fix=fix)
    return RemoteAway(f"{doing} failed", why=why, fix="try again when the remote can be reached")


def has_sick_disk(failed: GitFailed) -> bool:
    """Whether git ran into a disk, on either side, that is full or cannot be written to."""
    return bool(_DISK_FULL.search(failed.stderr) or _DISK_SICK.search(failed.stderr))


def local_error(failed: GitFailed, *, doing: str) -> TammaError:
    """Trouble in our own folders: a full disk passes, anything else needs a look."""
    why = last_words(failed.stderr)
    if _DISK_FULL.search(failed.stderr):
        return TransientError(f"{doing} failed", why=why, fix="free some disk space")
    return PermanentError(f"{doing} failed", why=why, fix="if it happens again, remove the repository's mirror")


def disk_error(error: OSError, *, doing: str) -> TammaError:
    """What is neither short nor denied needs a look."""
    told = of_os_error(error, doing=doing)
    return told or PermanentError(f"{doing} failed", why=str(error), fix="look at Tamma's state folder")


def is_damage(failed: GitFailed) -> bool:
    """Whether our own mirror looks broken; what the remote says about itself does not count."""
    lines = [line for line in failed.stderr.splitlines() if not line.startswith("remote:")]
    return bool(_LOCAL_DAMAGE.search("\n".join(lines)))


def is_missing(failed: GitFailed) -> bool:
    """Whether git looked here for an object that must be here, and did not find it."""
    return "needed a single revision" in failed.stderr.lower()


def last_words(stderr: str, *, chars_max: int = 500) -> str:
    """The lines of stderr that tell the cause, as one bounded line without control characters."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(fatal|error|remote|ssh|warning):? ", line)] or lines
    text = "; ".join(telling[:4])
    return "".join(c if c.isprintable() else "?" for c in text)[:chars_max]
