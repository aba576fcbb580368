"""Numbers and rules that decide; bootstrap maps configuration to them. Units: timedelta inside, bytes and counts plain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, unique
from typing import Final

# Who asks for more is not believed: the task would stop, and nobody would be told.
ASKED_WAIT_MAX: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """How long an attempt may go without a sign of life; a worker is offline after three missed beats."""

    duration: timedelta = timedelta(seconds=60)
    beat: timedelta = timedelta(seconds=15)
    reservation: timedelta = timedelta(seconds=60)
    missed_beats_max: int = 3

    @property
    def fence(self) -> timedelta:
        """How long a worker goes on without a renewal: it must have stopped *before* its lease is over, not after."""
        return self.duration * 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often each kind of end may happen before a human is asked, and how long to wait in between."""

    attempts_max: int = 3
    infra_max: int = 20
    interruptions_max: int = 20
    crashes_max: int = 3
    backoff_base: timedelta = timedelta(seconds=10)
    backoff_max: timedelta = timedelta(minutes=15)

    def delay(self, n: int, *, chance: float, asked: timedelta | None = None) -> timedelta:
        """Exponential with equal jitter: half of the step is certain, half is chance in [0, 1). Never less than was ``asked``
        for by whoever sent us away, up to a day.

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (the "equal jitter" variant).
        """
        assert n >= 1, n
        assert 0 <= chance < 1, chance
        step = min(self.backoff_base * float(2 ** min(n - 1, 30)), self.backoff_max)
        return max(step / 2 + step / 2 * chance, min(asked or timedelta(0), ASKED_WAIT_MAX))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one tick; each number counts on its own."""

    candidates: int = 200
    running: int = 8
    running_per_repository: int = 4
    creations_per_tick: int = 50
    open_changes_per_repository: int = 20
    issue_bytes_max: int = 65_536


@unique
class Order(StrEnum):
    """Which issue goes first among those that may go."""

    OLDEST = "oldest"
    NEWEST = "newest"
    PRIORITY = "priority"


DEFAULT_LABEL: Final = "tamma"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionPolicy:
    """Which issues Tamma may take. Labels are compared in lower case; ``trigger`` is taken off when a task ends."""

    trigger: str = DEFAULT_LABEL
    labels_all: frozenset[str] = frozenset()
    labels_none: frozenset[str] = frozenset({"blocked", "wontfix"})
    order: Order = Order.OLDEST
    assignee: str | None = None
    authors: frozenset[str] = frozenset()
    priority_prefix: str = "priority:"


@unique
class RedGreen(StrEnum):
    """How much the red-green check binds. ``when-possible``: a fail binds, an ``unable`` is only shown."""

    WHEN_POSSIBLE = "when-possible"
    REQUIRED = "required"
    ADVISORY = "advisory"
    OFF = "off"


DEFAULT_TEST_PATHS: Final = (
    "**/test/**", "**/tests/**", "**/__tests__/**", "**/spec/**", "**/testdata/**", "**/fixtures/**",
    "**/test_*.py", "**/*_test.py", "**/tests.py", "**/conftest.py", "**/*_test.go", "**/*.test.*", "**/*.spec.*", "**/*_spec.rb",
)  # fmt: skip
DEFAULT_PROTECTED_PATHS: Final = (
    ".github/**", ".gitlab-ci.yml", ".gitea/**", ".forgejo/**", ".woodpecker*", ".woodpecker/**", ".circleci/**",
    "Jenkinsfile", "azure-pipelines*", "**/Dockerfile*", "**/docker-compose*", "**/.gitattributes", ".gitmodules",
    ".pre-commit-config.yaml", "tox.ini", "pytest.ini", ".pytest.ini", "noxfile.py", "conftest.py", "Makefile", "CODEOWNERS", "**/CODEOWNERS",
    "tamma.toml", ".claude/**", ".codex/**", ".agents/**", ".gemini/**", ".cursor/**", ".mcp.json", ".husky/**",
    "AGENTS.md", "CLAUDE.md",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePolicy:
    """What a change may be. Size caps of SECURITY C5; globs are matched on the NFC, case-folded path."""

    files_max: int = 100
    lines_max: int = 2_000
    bytes_max: int = 4_194_304
    file_bytes_max: int = 1_048_576
    binaries_max: int = 20
    protected_paths: tuple[str, ...] = DEFAULT_PROTECTED_PATHS
    test_paths: tuple[str, ...] = DEFAULT_TEST_PATHS
    red_green: RedGreen = RedGreen.WHEN_POSSIBLE
    repairs_max: int = 2
    approve_before_publish: bool = False
    is_draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPolicy:
    """What one agent run may use."""

    wall_clock: timedelta = timedelta(minutes=30)
    idle: timedelta = timedelta(minutes=10)
    output_bytes_max: int = 20_000_000
    event_bytes_max: int = 2_000
