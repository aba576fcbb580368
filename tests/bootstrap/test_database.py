"""What keeps the state folder from being made is told to whoever can act."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tamma.bootstrap.database import make_state_folder
from tamma.config.loader import load
from tamma.core.errors import ConfigError, TammaError, TransientError


def test_a_link_that_leads_nowhere_is_told_as_that(tmp_path: Path) -> None:
    """A disk that is not mounted, mostly; "File exists" would not help."""
    (tmp_path / ".tamma").symlink_to("/not/mounted")
    with pytest.raises(ConfigError, match="a link to /not/mounted, which is not there"):
        make_state_folder(load(None, None, environ={}, cwd=tmp_path))


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
