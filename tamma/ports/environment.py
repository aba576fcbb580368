"""What a repository needs before its gates and agent can run: prepared once, cached by what defines it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from tamma.core.errors import TammaError, TransientError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """``setup`` are command lines run in order in a checkout of the base commit, ``{environment}`` replaced by the folder to
    fill; ``inputs`` are files of the base commit whose content is part of the key."""

    setup: tuple[tuple[str, ...], ...] = ()
    inputs: tuple[str, ...] = ()
    timeout: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A prepared folder; ``key`` is definition + inputs' content + toolchain, hashed."""

    folder: Path
    key: str
    is_cached: bool
    duration: timedelta


class SetupFailed(TammaError):
    """A set-up command said no: the operator or the repository's owner must look."""

    def __init__(self, what: str, *, why: str) -> None:
        super().__init__(what, why=why, fix="fix the [environment] section or the repository")


class SetupUnavailable(TransientError):
    """A set-up command failed since something was away (a registry, the network)."""


class Environments(Protocol):
    """Prepares environments, or takes them from the cache."""

    def prepare(
        self,
        spec: EnvironmentSpec,
        *,
        read_input: Callable[[str], bytes | None],
        checkout: Callable[[], AbstractContextManager[Path]],
        tag: str,
        should_stop: Callable[[], bool] | None = None,
    ) -> AbstractContextManager[Environment | None]:
        """The environment, held against eviction until the context is left; None when ``spec.setup`` is empty.

        Built aside and renamed into place; one builder per key, others wait. Raises SetupFailed or SetupUnavailable.
        """
        ...

    def sizes(self) -> Sequence[tuple[str, int]]:
        """(key, bytes) of what is cached, least recently used first."""
        ...
