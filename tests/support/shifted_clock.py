"""A wall clock that a test sets for one process and its Python children, also while they run; monotonic time and the database's
stay. Not by libfaketime: it breaks Python's ``time.sleep`` (EINVAL) where the clock goes back, monotonic time faked or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SITE: Final = """
import datetime, os, time

_file, _time, _time_ns, _real = os.environ["SHIFT_FILE"], time.time, time.time_ns, datetime.datetime


def _shift():
    with open(_file) as file:
        return float(file.read())


class _Meta(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, _real)

    def __subclasscheck__(cls, subclass):
        return issubclass(subclass, _real)


class _Shifted(_real, metaclass=_Meta):
    @classmethod
    def now(cls, tz=None):
        return _real.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return _real.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)


time.time = lambda: _time() + _shift()
time.time_ns = lambda: _time_ns() + int(_shift() * 1e9)
datetime.datetime = _Shifted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftedClock:
    """In ``folder``; begins without a shift. ``env`` is what the process gets."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "sitecustomize.py").write_text(_SITE)
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """From now on the clock goes so much wrong."""
        (self.folder / "new").write_text(str(seconds))
        (self.folder / "new").replace(self.folder / "shift")

    @property
    def env(self) -> dict[str, str]:
        """For the process."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, "SHIFT_FILE": str(self.folder / "shift")}
