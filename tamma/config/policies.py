"""Configuration as values of the core and the ports: the only bridge between the two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from tamma.config.fields import Section
from tamma.config.schema import (
    AgentSettings,
    ChangeSettings,
    Config,
    EnvironmentSettings,
    GateSettings,
    LeaseSettings,
    LimitSettings,
    RepositorySettings,
    RetrySettings,
    SelectSettings,
)
from tamma.core.gate import GateSpec
from tamma.core.policy import AgentPolicy, ChangePolicy, LeasePolicy, Limits, RetryPolicy, SelectionPolicy
from tamma.ports.environment import EnvironmentSpec

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """What is in force for one repository. ``table`` is its own, empty where the configuration does not name it."""

    name: str
    table: RepositorySettings
    agent: AgentSettings
    environment: EnvironmentSettings
    change: ChangeSettings
    gates: tuple[GateSettings, ...]


def for_repository(config: Config, name: str) -> RepositoryConfig:
    """The top level with the repository's own keys over it; its gates, if it has any table of them, replace the list.

    Key by key, so that a repository that raises one limit does not lose the protected paths of the top level.
    """
    table = config.repositories.get(name) or RepositorySettings()
    return RepositoryConfig(
        name=name,
        table=table,
        agent=_over(config.agent, table.agent),
        environment=_over(config.environment, table.environment),
        change=_over(config.change, table.change),
        gates=config.gates if table.gates is None else table.gates,
    )


def _over(below: S, above: S | None) -> S:
    if above is None:
        return below
    return below.model_copy(update={name: getattr(above, name) for name in above.model_fields_set})


def as_limits(settings: LimitSettings) -> Limits:
    """Bounds of one tick."""
    return Limits(
        candidates=settings.candidates_max,
        running=settings.running_max,
        running_per_repository=settings.running_per_repository_max,
        creations_per_tick=settings.creations_per_tick_max,
        open_changes_per_repository=settings.open_changes_per_repository_max,
        issue_bytes_max=settings.issue_bytes_max,
    )


def as_retry_policy(settings: RetrySettings) -> RetryPolicy:
    """How often, and how long in between."""
    return RetryPolicy(
        attempts_max=settings.attempts_max,
        infra_max=settings.infra_max,
        interruptions_max=settings.interruptions_max,
        crashes_max=settings.crashes_max,
        backoff_base=timedelta(seconds=settings.backoff_base_seconds),
        backoff_max=timedelta(seconds=settings.backoff_max_seconds),
    )


def as_lease_policy(settings: LeaseSettings) -> LeasePolicy:
    """Signs of life."""
    return LeasePolicy(
        duration=timedelta(seconds=settings.duration_seconds),
        beat=timedelta(seconds=settings.beat_seconds),
        reservation=timedelta(seconds=settings.reservation_seconds),
        missed_beats_max=settings.missed_beats_max,
    )


def as_selection_policy(settings: SelectSettings) -> SelectionPolicy:
    """Which issues; labels in lower case, as the policy compares them."""
    return SelectionPolicy(
        trigger=settings.label.lower(),
        labels_all=frozenset(label.lower() for label in settings.labels_all),
        labels_none=frozenset(label.lower() for label in settings.labels_none),
        order=settings.order,
        assignee=settings.assignee,
        authors=frozenset(settings.authors),
        priority_prefix=settings.priority_prefix.lower(),
    )


def as_change_policy(settings: ChangeSettings) -> ChangePolicy:
    """What a change may be."""
    return ChangePolicy(
        files_max=settings.files_max,
        lines_max=settings.lines_max,
        bytes_max=settings.bytes_max,
        file_bytes_max=settings.file_bytes_max,
        binaries_max=settings.binaries_max,
        protected_paths=settings.protected_paths,
        test_paths=settings.test_paths,
        red_green=settings.red_green,
        repairs_max=settings.repairs_max,
        approve_before_publish=settings.approve_before_publish,
        is_draft=settings.draft,
    )


def as_agent_policy(settings: AgentSettings) -> AgentPolicy:
    """What one run may use."""
    return AgentPolicy(
        wall_clock=timedelta(seconds=settings.wall_clock_seconds),
        idle=timedelta(seconds=settings.idle_seconds),
        output_bytes_max=settings.output_bytes_max,
    )


def as_gate_specs(gates: tuple[GateSettings, ...]) -> tuple[GateSpec, ...]:
    """The command gates, in order."""
    return tuple(
        GateSpec(
            name=gate.name,
            argv=gate.argv,
            env=dict(gate.env),
            cwd=gate.cwd,
            timeout=timedelta(seconds=gate.timeout_seconds),
            report=gate.report,
            is_required=gate.required,
        )
        for gate in gates
    )


def as_environment_spec(settings: EnvironmentSettings) -> EnvironmentSpec:
    """What is built once."""
    return EnvironmentSpec(
        setup=settings.setup, inputs=settings.inputs, timeout=timedelta(seconds=settings.timeout_seconds)
    )
