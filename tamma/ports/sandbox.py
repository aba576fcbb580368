"""What stands between an agent or a gate and the machine; the only thing that starts their processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tamma.ports.system import Completed, ProcessLimits


class Box(Protocol):
    """One place to run untrusted processes in, for one folder. Handed to an agent; it cannot start anything else."""

    @property
    def folder(self) -> Path:
        """Where the processes work, as they see it."""
        ...

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: ProcessLimits,
        stdin: bytes = b"",
        cwd: str = ".",
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run to the end. ``env`` is added to the box's own minimal, allow-listed environment (PATH, HOME, LANG, TZ, TMPDIR
        and the operator's allow-list); ``cwd`` is relative to ``folder``. Ends early, with ``Stop.ASKED``, when the
        attempt is being stopped. Raises PermanentError if the program cannot be started."""
        ...


class Sandbox(Protocol):
    """Opens boxes."""

    @property
    def name(self) -> str:
        """``none`` means unsandboxed, and is said everywhere."""
        ...

    def box(
        self, folder: Path, *, tag: str, readable: Sequence[Path] = (), should_stop: Callable[[], bool] | None = None
    ) -> Box:
        """A box for ``folder``. ``tag`` marks its processes (``TAMMA_BOX`` in their environment) so that a later attempt can
        end what a killed worker left behind; ``readable`` are further folders that the processes need to read."""
        ...

    def tidy(self) -> None:
        """Remove the folders that dead workers left of boxes of any task; those of living ones stay."""
        ...

    def sweep(self, tag: str) -> int:
        """End every process on this machine still marked with ``tag`` (a prefix up to a colon matches); returns how many."""
        ...
