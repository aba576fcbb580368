"""When garbage is looked for: hardly ever while a command starts, as usual in one that stays for days."""

import gc
from typing import Final

_USUAL: Final = gc.get_threshold()
_START_OBJECTS_MAX: Final = 50_000


def collect_rarely() -> None:
    """For the start: what importing makes is no garbage, and looking through it again and again would be an eighth of it."""
    gc.set_threshold(_START_OBJECTS_MAX)


def collect_as_usual() -> None:
    """For a process that stays: else it would keep up to 10 MiB of garbage. What the start loaded is never looked at again."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
