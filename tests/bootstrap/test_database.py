"""What keeps the state folder from being made is told to whoever can act."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tamma.bootstrap.database import make_state_folder
from tamma.config.loader import load
from tamma.core.errors import ConfigError, TammaError, TransientError


@pytest.mark.parametrize(
    ("number", "kind", "fix"),
    [
        (errno.ENOSPC, TransientError, "disk space"),
        (errno.EDQUOT, TransientError, "disk space"),
        (errno.EMFILE, TransientError, "ulimit -n"),
        (errno.ENFILE, TransientError, "fs.file-max"),
        (errno.EIO, TransientError, "look at the disk"),
        (errno.EACCES, ConfigError, "state.folder"),
    ],
)
def test_a_full_disk_at_the_start_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[TammaError], fix: str
) -> None:
    """Space and descriptors come back, so a script may try again; a place without permission needs the operator."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "it fails")

    loaded = load(None, None, environ={}, cwd=tmp_path)
    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(kind) as told:
        make_state_folder(loaded)
    assert fix in told.value.fix
