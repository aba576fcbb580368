"""Everything that can be configured: sections, keys, bounds, defaults and what each means; the reference is made of it.

Defaults that are policy come from ``tamma.core.policy``, so that they have one home.
"""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tamma.config.fields import (
    DAY_SECONDS,
    Count,
    Location,
    Name,
    Names,
    Number,
    RepositoryName,
    Section,
    Text,
)
from tamma.config.work import (
    AgentKind,
    AgentSettings,
    ChangeSettings,
    EnvironmentSettings,
    Gates,
    GateSettings,
    PromptWay,
)
from tamma.core.policy import LeasePolicy, Limits, Order, RetryPolicy, SelectionPolicy

__all__ = [
    "AgentKind", "AgentSettings", "ChangeSettings", "Config", "DatabaseSettings", "EnvironmentSettings", "ForgeKind", "ForgeSettings",
    "GateSettings", "LeaseSettings", "LimitSettings", "LogFormat", "LogLevel", "LogSettings", "PromptWay", "RepositorySettings",
    "RetrySettings", "SandboxKind", "SandboxSettings", "SelectSettings", "StateSettings",
]  # fmt: skip

_LIMITS: Final = Limits()
_RETRY: Final = RetryPolicy()
_LEASE: Final = LeasePolicy()
_SELECTION: Final = SelectionPolicy()
_POSTGRES: Final = ("postgres://", "postgresql://", "postgresql+psycopg://")


def _postgres_url(url: str) -> str:
    if not url.startswith(_POSTGRES):
        # Whatever else it is may hold a password anywhere.
        raise ValueError("it does not start with postgresql:// (what it is is not shown: it may hold a password)")
    return url


PostgresUrl = Annotated[Text, AfterValidator(_postgres_url)]


@unique
class ForgeKind(StrEnum):
    """Which adapter talks to the forge."""

    LOCAL = "local"


@unique
class SandboxKind(StrEnum):
    """What holds agents and gates."""

    NONE = "none"


@unique
class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@unique
class LogFormat(StrEnum):
    """What log lines look like."""

    TEXT = "text"
    JSON = "json"


class ForgeSettings(Section):
    """The Git platform where issues are read and changes are opened."""

    kind: ForgeKind = Field(
        default=ForgeKind.LOCAL, description="`local`: a bare repository and issue files in a folder."
    )
    root: Location = Field(
        default=Path("forge"),
        description="Folder of a local forge, relative to this file; holds NAME/repo.git and NAME/issues.",
    )
    user: Name = Field(default="tamma", description="Tamma's own user on the forge: what it writes is known by it.")
    name: Name | None = Field(
        default=None,
        description="Name of the forge in ids; without one it is the kind. Changing it makes every issue new.",
        examples=["local"],
    )


class RepositorySettings(Section):
    """One repository; a table inside replaces what the top level says, key by key (`gates` as a whole)."""

    git: Text | None = Field(
        default=None, description="Path or URL of the Git repository.", examples=["forge/demo/repo.git"]
    )
    issues: Text | None = Field(
        default=None, description="Folder of the issue files of a local forge.", examples=["forge/demo/issues"]
    )
    changes: Text | None = Field(
        default=None, description="Folder where a local forge keeps its changes.", examples=["forge/demo/changes"]
    )
    base_branch: Name | None = Field(
        default=None,
        description="Branch that changes are made for; without one it is the remote's HEAD.",
        examples=["main"],
    )
    agent: AgentSettings | None = Field(default=None, description="Keys of [agent] that differ for this repository.")
    environment: EnvironmentSettings | None = Field(
        default=None, description="Keys of [environment] that differ for this repository."
    )
    change: ChangeSettings | None = Field(default=None, description="Keys of [change] that differ for this repository.")
    gates: Gates | None = Field(default=None, description="Gates of this repository, in place of the top-level ones.")

    @field_validator("environment")
    @classmethod
    def _one_cache(cls, value: EnvironmentSettings | None) -> EnvironmentSettings | None:
        if value is not None and "cache_bytes_max" in value.model_fields_set:
            raise ValueError("cache_bytes_max holds for all repositories together; set it in [environment]")
        return value


class SelectSettings(Section):
    """Which issues Tamma may take."""

    label: Name = Field(
        default=_SELECTION.trigger, description="Label that asks for Tamma; taken off when a task ends."
    )
    labels_all: Names = Field(
        default=tuple(sorted(_SELECTION.labels_all)),
        description="Labels an issue must all carry besides.",
        examples=[("ready",)],
    )
    labels_none: Names = Field(
        default=tuple(sorted(_SELECTION.labels_none)), description="Labels of which an issue may carry none."
    )
    order: Order = Field(default=_SELECTION.order, description="Which issue goes first.")
    assignee: Name | None = Field(
        default=_SELECTION.assignee, description="Only issues assigned to this user.", examples=["tamma"]
    )
    authors: Names = Field(
        default=tuple(sorted(_SELECTION.authors)),
        description="Only issues by these users; empty is anyone.",
        examples=[("alice",)],
    )
    priority_prefix: Text = Field(
        default=_SELECTION.priority_prefix, description="Prefix of the labels that give a priority, as in `priority:1`."
    )


class LimitSettings(Section):
    """Bounds of the orchestrator's work."""

    workers: Count = Field(
        default=2, ge=0, le=64, description="Local worker processes of one orchestrator; 0 leaves the work to others."
    )
    running_max: Count = Field(
        default=_LIMITS.running, ge=1, le=1_000, description="Most tasks that run at once, everywhere."
    )
    running_per_repository_max: Count = Field(
        default=_LIMITS.running_per_repository,
        ge=1,
        le=1_000,
        description="Most tasks that run at once for one repository.",
    )
    candidates_max: Count = Field(
        default=_LIMITS.candidates,
        ge=1,
        le=10_000,
        description="Most issues of a repository looked at per tick, in the order of select.order; the next tick goes on behind them.",
    )
    creations_per_tick_max: Count = Field(
        default=_LIMITS.creations_per_tick, ge=1, le=10_000, description="Most tasks made per tick."
    )
    open_changes_per_repository_max: Count = Field(
        default=_LIMITS.open_changes_per_repository,
        ge=1,
        le=10_000,
        description="Most changes per repository, open or under way, before no new task is made.",
    )
    issue_bytes_max: Count = Field(
        default=_LIMITS.issue_bytes_max, ge=256, le=10_485_760, description="Longest issue text that is taken."
    )
    tick_seconds: Number = Field(
        default=5.0, ge=0.05, le=3_600, description="Longest wait between two looks at the forge and the queue."
    )
    drain_seconds: Number = Field(
        default=20.0,
        ge=0,
        le=DAY_SECONDS,
        description="How long running workers may go on after the first SIGTERM, SIGINT or SIGHUP.",
    )


class RetrySettings(Section):
    """How often each kind of end may happen before a human is asked."""

    attempts_max: Count = Field(
        default=_RETRY.attempts_max, ge=1, le=100, description="Attempts whose agent failed or produced nothing."
    )
    infra_max: Count = Field(
        default=_RETRY.infra_max, ge=1, le=10_000, description="Attempts ended since something was away."
    )
    interruptions_max: Count = Field(
        default=_RETRY.interruptions_max, ge=1, le=10_000, description="Attempts ended by a signal."
    )
    crashes_max: Count = Field(
        default=_RETRY.crashes_max, ge=1, le=100, description="Attempts ended by a bug or without a word."
    )
    backoff_base_seconds: Number = Field(
        default=_RETRY.backoff_base.total_seconds(),
        gt=0,
        le=DAY_SECONDS,
        description="Wait before the second attempt; doubled each time.",
    )
    backoff_max_seconds: Number = Field(
        default=_RETRY.backoff_max.total_seconds(), gt=0, le=7 * DAY_SECONDS, description="Longest such wait."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.backoff_base_seconds > self.backoff_max_seconds:
            raise ValueError("backoff_base_seconds is more than backoff_max_seconds")
        return self


class LeaseSettings(Section):
    """How long a worker may go without a sign of life."""

    duration_seconds: Number = Field(
        default=_LEASE.duration.total_seconds(),
        gt=0,
        le=DAY_SECONDS,
        description="Time without a beat after which an attempt is given up.",
    )
    beat_seconds: Number = Field(
        default=_LEASE.beat.total_seconds(),
        gt=0,
        le=3_600,
        description="Time between two beats; less than half of duration_seconds.",
    )
    reservation_seconds: Number = Field(
        default=_LEASE.reservation.total_seconds(),
        gt=0,
        le=DAY_SECONDS,
        description="Time a dispatched task waits for its worker's claim.",
    )
    missed_beats_max: Count = Field(
        default=_LEASE.missed_beats_max,
        ge=1,
        le=100,
        description="Missed beats after which a worker counts as offline.",
    )

    @model_validator(mode="after")
    def _two_beats_fit(self) -> Self:
        if self.beat_seconds * 2 >= self.duration_seconds:
            raise ValueError(
                "beat_seconds must be less than half of duration_seconds, so that one lost beat costs no lease"
            )
        return self


class SandboxSettings(Section):
    """What holds agents and gates."""

    kind: SandboxKind = Field(
        default=SandboxKind.NONE, description="`none`: they run as Tamma's own user, and everything says so."
    )


class DatabaseSettings(Section):
    """The Postgres database; without one, an embedded server in the state folder is used."""

    url: PostgresUrl | None = Field(
        default=None,
        description="Address of the database, without a password; DATABASE_URL may hold one.",
        examples=["postgresql://tamma@db.example/tamma"],
    )
    url_file: Location | None = Field(
        default=None,
        description="File with the address, password and all, relative to this file.",
        examples=["database-url"],
    )
    direct_url: PostgresUrl | None = Field(
        default=None,
        description="Address past a pooler, for LISTEN; without it a pooled database is polled.",
        examples=["postgresql://tamma@db.example:5432/tamma"],
    )
    direct_url_file: Location | None = Field(
        default=None, description="File with that address.", examples=["database-direct-url"]
    )
    pool_size_max: Count = Field(default=5, ge=1, le=100, description="Most connections of one process.")
    connect_timeout_seconds: Number = Field(default=10.0, ge=1, le=300, description="Longest wait for a connection.")
    statement_timeout_seconds: Number = Field(
        default=30.0, ge=1, le=3_600, description="Longest one statement may take."
    )


class StateSettings(Section):
    """What Tamma keeps on disk: the embedded server, mirrors, environments, workspaces."""

    folder: Location = Field(default=Path(".tamma"), description="Folder, relative to this file.")


class LogSettings(Section):
    """Log lines on stderr."""

    level: LogLevel = Field(default=LogLevel.INFO, description="The least that is logged.")
    format: LogFormat = Field(default=LogFormat.TEXT, description="Lines for people, or one JSON object per line.")


# The sources below what is given to Config itself; set by the loader, for the time of one call.
LAYERS: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("LAYERS", default=())


class Config(BaseSettings):
    """All of tamma.toml."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_prefix="TAMMA_",
        env_nested_delimiter="__",
        title="tamma.toml",
    )

    forge: ForgeSettings = Field(default=ForgeSettings(), description="The Git platform.")
    repositories: Annotated[dict[RepositoryName, RepositorySettings], Field(max_length=1_000)] = Field(
        default={}, description="Repositories by name; empty means every folder of forge.root with a repo.git."
    )
    select: SelectSettings = Field(default=SelectSettings(), description="Which issues Tamma may take.")
    limits: LimitSettings = Field(default=LimitSettings(), description="Bounds of the orchestrator's work.")
    retry: RetrySettings = Field(default=RetrySettings(), description="How often each kind of end may happen.")
    lease: LeaseSettings = Field(default=LeaseSettings(), description="Signs of life.")
    agent: AgentSettings = Field(default=AgentSettings(), description="The AI that edits the workspace.")
    sandbox: SandboxSettings = Field(default=SandboxSettings(), description="What holds agents and gates.")
    environment: EnvironmentSettings = Field(
        default=EnvironmentSettings(), description="What the repository needs first."
    )
    gates: Gates = Field(default=(), description="Checks that a change must pass.")
    change: ChangeSettings = Field(default=ChangeSettings(), description="What a change may be.")
    database: DatabaseSettings = Field(default=DatabaseSettings(), description="The Postgres database.")
    state: StateSettings = Field(default=StateSettings(), description="What Tamma keeps on disk.")
    log: LogSettings = Field(default=LogSettings(), description="Log lines.")

    @model_validator(mode="after")
    def _gate_names_differ(self) -> Self:
        for where, gates in [
            ("gates", self.gates),
            *((f"repositories.{n}.gates", r.gates) for n, r in self.repositories.items()),
        ]:
            names = [gate.name for gate in gates or ()]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{where} has more than one gate named {', '.join(twice)}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then what the loader read; never the process's environment by itself."""
        return (init_settings, *LAYERS.get())
