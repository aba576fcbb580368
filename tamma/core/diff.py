"""What a change may touch and how large it may be, judged from its list of paths alone, before any process runs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from typing import Final, Protocol

from tamma.core import paths
from tamma.core.gate import GateReport, GateSpec, GateVerdict
from tamma.core.ids import Oid
from tamma.core.policy import ChangePolicy
from tamma.core.words import counted

PROTECTED_PATHS: Final = "protected-paths"
DIFF_BUDGET: Final = "diff-budget"
_SHOWN_MAX: Final = 20
_VERBS: Final = {"A": "adds", "M": "changes", "D": "deletes", "T": "changes the kind of"}
_WORD: Final = re.compile(r"[^\s'\"`;|&()<>=,]+")


class ChangedPath(Protocol):
    """One path of a diff without rename detection: a rename is a D of the old path and an A of the new one."""

    @property
    def path(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def lines_added(self) -> int: ...
    @property
    def lines_removed(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def is_binary(self) -> bool: ...


def protected_hits(changes: Iterable[ChangedPath], patterns: Collection[str]) -> tuple[str, ...]:
    """A phrase for each changed path that the operator protects, or that is too odd to be judged.

    Every status counts, mode changes and deletions included.
    """
    hits = []
    for change in changes:
        path = paths.normalised(change.path)
        if path is None:
            hits.append(f"{_verb(change)} {change.path!r} (not an ordinary path)")
        elif (pattern := paths.first_match(path, patterns)) is not None:
            told = "a protected path" if pattern == path else f"protected by {pattern}"
            hits.append(f"{_verb(change)} {path} ({told})")
    return tuple(hits)


def _verb(change: ChangedPath) -> str:
    return _VERBS.get(change.status, "touches")


def judge_protected(changes: Collection[ChangedPath], *, policy: ChangePolicy, tree: Oid | None = None) -> GateReport:
    """Fails on any protected path; such a change is refused by policy, never repaired (see ``refusal``)."""
    hits = protected_hits(changes, policy.protected_paths)
    if not hits:
        return GateReport(
            name=PROTECTED_PATHS,
            verdict=GateVerdict.PASS,
            summary=f"none of {counted(len(changes), 'changed path')} is protected",
            tree=tree,
        )
    return GateReport(
        name=PROTECTED_PATHS,
        verdict=GateVerdict.FAIL,
        summary="the change " + _some(hits),
        tree=tree,
        output_tail="\n".join(hits),
    )


def judge_budget(changes: Collection[ChangedPath], *, policy: ChangePolicy, tree: Oid | None = None) -> GateReport:
    """Fails when the change is larger than a reviewer should be asked to read."""
    counts = measure(changes)
    limits = {
        ("files", "file"): policy.files_max,
        ("lines", "line"): policy.lines_max,
        ("bytes", "byte"): policy.bytes_max,
        ("binaries", "binary"): policy.binaries_max,
    }
    over = [
        f"{counted(counts[many], one, many)}, {limit} allowed"
        for (many, one), limit in limits.items()
        if counts[many] > limit
    ]
    large = [c.path for c in changes if c.status != "D" and c.bytes > policy.file_bytes_max]
    if large:
        over.append(f"files over {policy.file_bytes_max} bytes: {_some(large)}")
    return GateReport(
        name=DIFF_BUDGET,
        verdict=GateVerdict.FAIL if over else GateVerdict.PASS,
        summary="too large: " + "; ".join(over)
        if over
        else f"{counted(counts['files'], 'file')}, {counted(counts['lines'], 'line')}",
        tree=tree,
        counts=counts,
    )


def hollowed(spec: GateSpec, changes: Iterable[ChangedPath]) -> tuple[str, ...]:
    """Files named in a gate's command line that the change deletes or leaves empty: then its green may say nothing."""
    words = [word.partition("::")[0] for text in (*spec.argv, *spec.env.values()) for word in _WORD.findall(text)]
    named = {posixpath.normpath(posixpath.join(where, word)) for word in words for where in (spec.cwd, ".")}
    gone = [c.path for c in changes if c.status == "D" or (c.bytes == 0 and c.lines_removed)]
    return tuple(path for path in gone if path in named)[:_SHOWN_MAX]


def measure(changes: Collection[ChangedPath]) -> dict[str, int]:
    """Files, lines (added and removed), bytes of what is left, and binary files."""
    return {
        "files": len(changes),
        "lines": sum(c.lines_added + c.lines_removed for c in changes),
        "bytes": sum(c.bytes for c in changes if c.status != "D"),
        "binaries": sum(c.is_binary for c in changes),
    }


def refusal(reports: Iterable[GateReport]) -> GateReport | None:
    """The report that makes the whole change refused by policy, if one does: nothing an agent may repair."""
    return next((r for r in reports if r.name == PROTECTED_PATHS and r.verdict is GateVerdict.FAIL), None)


def _some(items: Collection[str]) -> str:
    shown = list(items)[:_SHOWN_MAX]
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
