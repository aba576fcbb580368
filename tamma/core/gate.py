"""Checks that a change must pass: what is asked, what was seen, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from typing import ClassVar

from tamma.core.ids import BlobId, Oid


@unique
class GateVerdict(StrEnum):
    """``skip``: did not apply; ``unable``: could not be asked. Neither is ever shown as a pass."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    UNABLE = "unable"


@unique
class TestStatus(StrEnum):
    """What one test came to; an error counts as failed."""

    __test__ = False  # pytest would take the name for a test class

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """One command gate, from the operator's configuration, never from the change's own tree.

    ``report`` is a JUnit XML file that the command writes, relative to the checkout. ``{environment}`` and
    ``{report}`` in ``argv`` and ``env`` are replaced by the environment's folder and the report's absolute path.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    timeout: timedelta = timedelta(minutes=10)
    report: str | None = None
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """What one run of a command gate showed.

    ``tests`` is None where the command reports no per-test results; ``broken_files`` are files that could not be
    collected; ``report_fault`` says why a report that was asked for could not be used; ``unable`` says why the command
    could not be asked at all (then ``exit_code`` is None).
    """

    __test__: ClassVar[bool] = False  # pytest would take the name for a test class

    exit_code: int | None
    duration: timedelta
    tests: Mapping[str, TestStatus] | None = None
    broken_files: frozenset[str] = frozenset()
    output: BlobId | None = None
    output_tail: str = ""
    unable: str = ""
    has_timed_out: bool = False
    report_fault: str = ""

    @property
    def is_green(self) -> bool:
        """Whether the command was asked and said yes, in time."""
        return self.exit_code == 0 and not self.has_timed_out


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """A verdict and the evidence behind it, as the event log, the change's description and the agent get to see it.

    ``tree`` is the git tree that was judged. Test ids in ``fixed`` failed or were absent without the change and pass
    with it; ``regressed`` passed on the base and do not pass now; ``unfixed`` fail although the change introduced or
    touched them, and ``inherited`` are those of them that fail on the base, too; ``flaky`` failed once and passed at once on the same tree; ``removed`` and ``newly_skipped`` ran on
    the base and do not run now. ``hollowed`` are files that the command names and the change deletes or empties.
    """

    name: str
    verdict: GateVerdict
    summary: str
    is_required: bool = True
    argv: tuple[str, ...] = ()
    tree: Oid | None = None
    duration: timedelta = timedelta(0)
    counts: Mapping[str, int] = field(default_factory=dict)
    base_counts: Mapping[str, int] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    regressed: tuple[str, ...] = ()
    unfixed: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    newly_skipped: tuple[str, ...] = ()
    hollowed: tuple[str, ...] = ()
    output: BlobId | None = None
    output_tail: str = ""

    @property
    def binds(self) -> bool:
        """Whether this verdict stands between the change and its delivery."""
        return self.is_required and self.verdict is GateVerdict.FAIL

    @property
    def needs_human(self) -> bool:
        """Whether a required check could not be asked: nothing the agent can mend."""
        return self.is_required and self.verdict is GateVerdict.UNABLE
