"""What is told of a failure that one action, one repository or one issue must not pass on to the others."""

from __future__ import annotations

import traceback
from pathlib import PurePath

from tamma.core.errors import TammaError
from tamma.core.redact import bounded, clean

_BYTES_MAX = 500


def trouble(error: Exception) -> str:
    """One line: what a foreseen error says; of a bug also its type and where it happened."""
    if isinstance(error, TammaError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (at {PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    what = bounded(clean(f"{type(error).__name__}: {error}"), bytes_max=_BYTES_MAX)
    return f"a bug in Tamma: {what}{where}"
