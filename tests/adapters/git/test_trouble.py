"""What git said becomes an error for whoever can act on it."""

from __future__ import annotations

import pytest

from tamma.adapters.git.command import GitFailed
from tamma.adapters.git.trouble import local_error, remote_error
from tamma.core.errors import TransientError


@pytest.mark.parametrize(
    "stderr",
    [
        "fatal: write error: No space left on device",
        "error: file write error: Out of diskspace",
        "fatal: sha1 file 'desk/x.lock' write error. Out of disk space",
        "error: unable to write file x: Disk quota exceeded",
        "error: unable to write file a.py\nerror: unable to write file tests/test_a.py",
    ],
)
def test_a_full_disk_passes(stderr: str) -> None:
    """However git words it, and whether here or while fetching: the attempt is tried again, not blocked."""
    failed = GitFailed(["hash-object"], code=128, stderr=stderr)
    for error in (local_error(failed, doing="x"), remote_error(failed, doing="x")):
        assert isinstance(error, TransientError)
        assert error.fix == "free some disk space"
