"""From settings to the values that engine and adapters take; what a repository sets replaces the top-level table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tamma.config.schema import (
    AgentSettings,
    ChangeSettings,
    Config,
    EnvironmentSettings,
    GateSettings,
    RepositorySettings,
)
from tamma.core.gate import GateSpec
from tamma.core.policy import AgentPolicy, ChangePolicy, LeasePolicy, Limits, RetryPolicy, SelectionPolicy
from tamma.ports.environment import EnvironmentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """The settings that hold for one repository."""

    gates: tuple[GateSettings, ...]
    environment: EnvironmentSettings
    change: ChangeSettings
    agent: AgentSettings


def for_repository(config: Config, name: str) -> RepositoryConfig:
    """Top level, replaced table by table."""
    own = config.repositories.get(name, RepositorySettings())
    return RepositoryConfig(
        gates=config.gates if own.gates is None else own.gates,
        environment=own.environment or config.environment,
        change=own.change or config.change,
        agent=own.agent or config.agent,
    )


def as_limits(config: Config) -> Limits:
    """``[limits]``."""
    limits = config.limits
    return Limits(
        candidates=limits.candidates_max,
        running=limits.running_max,
        running_per_repository=limits.running_per_repository_max,
        creations_per_tick=limits.creations_per_tick_max,
        open_changes_per_repository=limits.open_changes_per_repository_max,
        issue_bytes_max=limits.issue_bytes_max,
    )


def as_retry_policy(config: Config) -> RetryPolicy:
    """``[retry]``."""
    retry = config.retry
    return RetryPolicy(
        attempts_max=retry.attempts_max,
        infra_max=retry.infra_max,
        interruptions_max=retry.interruptions_max,
        crashes_max=retry.crashes_max,
        backoff_base=timedelta(seconds=retry.backoff_base_seconds),
        backoff_max=timedelta(seconds=retry.backoff_max_seconds),
    )


def as_lease_policy(config: Config) -> LeasePolicy:
    """``[lease]``."""
    lease = config.lease
    return LeasePolicy(
        duration=timedelta(seconds=lease.duration_seconds),
        beat=timedelta(seconds=lease.beat_seconds),
        reservation=timedelta(seconds=lease.reservation_seconds),
        missed_beats_max=lease.missed_beats_max,
    )


def as_selection_policy(config: Config) -> SelectionPolicy:
    """``[select]``; labels in lower case, as forges tell them."""
    select = config.select
    return SelectionPolicy(
        trigger=select.label.lower(),
        labels_all=frozenset(label.lower() for label in select.labels_all),
        labels_none=frozenset(label.lower() for label in select.labels_none),
        order=select.order,
        assignee=select.assignee,
        authors=frozenset(select.authors),
        priority_prefix=select.priority_prefix.lower(),
    )


def as_change_policy(change: ChangeSettings) -> ChangePolicy:
    """``[change]``."""
    return ChangePolicy(
        files_max=change.files_max,
        lines_max=change.lines_max,
        bytes_max=change.bytes_max,
        file_bytes_max=change.file_bytes_max,
        binaries_max=change.binaries_max,
        protected_paths=change.protected_paths,
        test_paths=change.test_paths,
        red_green=change.red_green,
        repairs_max=change.repairs_max,
        approve_before_publish=change.approve_before_publish,
        is_draft=change.draft,
    )


def as_agent_policy(agent: AgentSettings) -> AgentPolicy:
    """The limits of ``[agent]``."""
    return AgentPolicy(
        wall_clock=timedelta(seconds=agent.wall_clock_seconds),
        idle=timedelta(seconds=agent.idle_seconds),
        output_bytes_max=agent.output_bytes_max,
    )


def as_gate_specs(gates: tuple[GateSettings, ...]) -> tuple[GateSpec, ...]:
    """``[[gates]]``."""
    return tuple(
        GateSpec(
            name=gate.name,
            argv=gate.argv,
            env=gate.env,
            cwd=gate.cwd,
            timeout=timedelta(seconds=gate.timeout_seconds),
            report=gate.report,
            is_required=gate.required,
        )
        for gate in gates
    )


def as_environment_spec(environment: EnvironmentSettings) -> EnvironmentSpec:
    """``[environment]``."""
    return EnvironmentSpec(
        setup=environment.setup, inputs=environment.inputs, timeout=timedelta(seconds=environment.timeout_seconds)
    )
