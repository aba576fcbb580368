"""What lies between two trees: changes, patch, entries. Renames are shown as D and A; no driver ever runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tamma.adapters.git.audit import show
from tamma.adapters.git.command import Git
from tamma.adapters.git.walk import GITLINK, Entry
from tamma.core.ids import BLOB_BYTES_MAX
from tamma.ports.workspace import PathChange

_PLAIN: Final = ("-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index")
# Three quarters of a blob: masking secrets makes a patch longer, and it must fit then too.
_PATCH_BYTES_MAX: Final = BLOB_BYTES_MAX // 4 * 3


def list_tree(git: Git, tree: str) -> dict[bytes, Entry]:
    """Every entry of a tree, by path, with sizes."""
    entries: dict[bytes, Entry] = {}
    for row in git.run("ls-tree", "-r", "-z", "-l", "--full-tree", tree).stdout.split(b"\0"):
        if row:
            head, _, path = row.partition(b"\t")
            mode, _, oid, size = head.split()
            entries[path] = Entry(mode.decode(), oid.decode(), 0 if size == b"-" else int(size))
    return entries


def list_changes(git: Git, old: str, new: str) -> tuple[PathChange, ...]:
    """One line per path that differs, in git's order."""
    fields = git.run("diff-tree", "-z", "--raw", "--numstat", *_PLAIN, old, new).stdout.split(b"\0")
    raw: list[tuple[bytes, list[str]]] = []
    counts: dict[bytes, tuple[str, str]] = {}
    rows = iter(fields)
    for row in rows:
        if row.startswith(b":"):
            raw.append((next(rows), row[1:].decode().split()))
        elif row:
            added, removed, path = row.split(b"\t", 2)
            counts[path] = (added.decode(), removed.decode())
    sizes = _sizes(git, [meta[3] for _, meta in raw if meta[1] not in {"000000", GITLINK}])
    return tuple(_change(path, meta, counts.get(path, ("0", "0")), sizes) for path, meta in raw)


def make_patch(git: Git, old: str, new: str) -> bytes:
    """The binary-safe patch that ``git apply`` takes. Raises PermanentError for more than a blob can keep."""
    return git.run(
        "diff-tree", "-p", "--binary", "--src-prefix=a/", "--dst-prefix=b/", *_PLAIN, old, new,
        output_bytes_max=_PATCH_BYTES_MAX,
    ).stdout  # fmt: skip


def index_lines(entries: Iterable[tuple[bytes, Entry | None]], *, zero: str) -> bytes:
    """Input of ``update-index -z --index-info``: removals first, so that a file can take a folder's place."""
    gone, here = [], []
    for path, entry in entries:
        if entry is None:
            gone.append(b"0 %s\t%s\0" % (zero.encode(), path))
        else:
            here.append(b"%s %s\t%s\0" % (entry.mode.encode(), entry.oid.encode(), path))
    return b"".join(gone + here)


def _change(path: bytes, meta: list[str], count: tuple[str, str], sizes: Mapping[str, int]) -> PathChange:
    old_mode, new_mode, _, new_oid, status = meta
    is_binary = count[0] == "-"
    try:
        name = path.decode("utf-8")
    except UnicodeDecodeError:
        name = show(path)
    return PathChange(
        path=name,
        status=status[:1],
        old_mode=old_mode,
        new_mode=new_mode,
        lines_added=0 if is_binary else int(count[0]),
        lines_removed=0 if is_binary else int(count[1]),
        bytes=sizes.get(new_oid, 0),
        is_binary=is_binary,
    )


def _sizes(git: Git, oids: list[str]) -> dict[str, int]:
    if not oids:
        return {}
    text = git.text(
        "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin="".join(f"{o}\n" for o in oids).encode()
    )
    return {oid: int(size) for oid, size in (line.split() for line in text.splitlines())}
