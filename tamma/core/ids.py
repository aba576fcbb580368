"""Identifiers: deterministic where two processes must agree without talking."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Final, NewType

from tamma.core.errors import ConfigError

TaskId = NewType("TaskId", str)
WorkerId = NewType("WorkerId", str)
CorrelationId = NewType("CorrelationId", str)
BlobId = NewType("BlobId", str)
Oid = NewType("Oid", str)

# Namespace of every derived id: uuid5(NAMESPACE_URL, "https://tamma.dev/ids"). Changing it orphans every delivered change.
NAMESPACE: Final = uuid.UUID("f35d4b81-ad25-5f49-8825-34f103e17a03")
BRANCH_PREFIX: Final = "tamma/"
_BRANCH: Final = re.compile(r"tamma/[a-z0-9][a-z0-9._/-]{0,80}")
_KEY_CHARS: Final = re.compile(r"[^a-z0-9._-]+")
_KEY_LENGTH_MAX: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class IssueRef:
    """An issue's address: the forge's name, the repository's name there, and the issue's native id, kept opaque."""

    forge: str
    repository: str
    number: str

    def __str__(self) -> str:
        """The form a person types: ``repository#number``."""
        return f"{self.repository}#{self.number}"

    @classmethod
    def parse(cls, text: str, *, forge: str, repository: str | None = None) -> IssueRef:
        """``repository#number``, or ``number`` alone where there is one repository.

        Raises ConfigError for anything else.
        """
        head, _, number = text.rpartition("#")
        chosen = head or repository
        if not chosen or not number or any(c == " " or not c.isprintable() for c in text):
            raise ConfigError(
                f"{text!r} is not an issue reference",
                why="an issue is named as repository#number" + ("" if repository is None else ", or by its number"),
                fix="write for example demo#12",
            )
        return cls(forge=forge, repository=chosen, number=number)


def task_id(ref: IssueRef, *, kind: str, generation: int) -> TaskId:
    """The task's id, the same for every process that looks at the same issue (DESIGN section 6)."""
    name = "\x1f".join((ref.forge, ref.repository, ref.number, kind, str(generation)))
    return TaskId(str(uuid.uuid5(NAMESPACE, name)))


def correlation_id(ref: IssueRef) -> CorrelationId:
    """One per issue, across its tasks, generations and processes."""
    name = "\x1f".join(("correlation", ref.forge, ref.repository, ref.number))
    return CorrelationId(str(uuid.uuid5(NAMESPACE, name)))


def parse_task_id(text: str) -> TaskId:
    """A canonical UUID. Raises ConfigError for anything else."""
    try:
        value = str(uuid.UUID(text))
    except ValueError:
        value = None
    if value != text.lower():
        raise ConfigError(
            f"{text!r} is not a task id",
            why="a task id is a UUID, as `tamma status` prints it",
            fix="run `tamma status` to list the tasks",
        )
    return TaskId(text.lower())


def worker_id(*, host: str, pid: int, boot: str) -> WorkerId:
    """Identity of one process: host, pid and a random boot id, so that a reused pid is somebody else."""
    return WorkerId(f"{host}:{pid}:{boot}")


# A dispatcher tells its child the boot id, so that it knows the child's identity exactly.
BOOT_ID_VARIABLE: Final = "TAMMA_BOOT_ID"


def issue_key(ref: IssueRef) -> str:
    """The issue's part of a branch name: its number, made harmless.

    A number that had to be changed gets 16 hex digits of its SHA-256 behind it, so that two issues never share a key.
    """
    slug = _KEY_CHARS.sub("-", ref.number.lower())[:_KEY_LENGTH_MAX].strip("-._")
    if slug == ref.number and ".." not in slug and not slug.endswith(".lock"):
        return slug
    digest = hashlib.sha256(ref.number.encode()).hexdigest()[:16]
    return f"{slug.replace('..', '-') or 'issue'}-{digest}"


def branch_name(ref: IssueRef) -> str:
    """The branch every attempt at this issue delivers to; never derived from its title, since titles change."""
    name = BRANCH_PREFIX + issue_key(ref)
    assert is_safe_branch(name), name
    return name


def is_safe_branch(name: str) -> bool:
    """Whether a branch may be pushed: under ``tamma/``, inert in an argument list, valid for git (SECURITY C4)."""
    if not _BRANCH.fullmatch(name) or ".." in name or "//" in name or name.endswith(("/", ".")):
        return False
    return not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))


BLOB_BYTES_MAX: Final = 33_554_432  # the table's check constraint says the same


def blob_id(content: bytes) -> BlobId:
    """A blob's name is the SHA-256 of its bytes."""
    return BlobId(hashlib.sha256(content).hexdigest())
