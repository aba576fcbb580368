"""What keeps a database fit and safe: proof that its log is whole, backups, rights."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tamma.bootstrap import database, parts
from tamma.config.loader import load

if TYPE_CHECKING:
    from tamma.adapters.postgres.archive import Due, Run
    from tamma.adapters.postgres.backup import Manifest
    from tamma.adapters.postgres.verify import Report
    from tamma.config.loader import Loaded


def verify_database(config: Path | None, *, heads: Path | None, archive: Path | None) -> Report:
    """Chain, fold and rules of the log; ``heads`` is a file that ``exported_heads`` filled earlier, ``archive`` the folder of
    its archives.

    Raises ConfigError if the file cannot be read or there is no database, TransientError when it is away.
    """
    from tamma.adapters.postgres.verify import verify
    from tamma.bootstrap.heads import read

    return verify(_url(load(config)), heads=read(heads) if heads else (), archive=archive)


def archive_log(config: Path | None, folder: Path | None, *, older_than_days: int, files_max: int) -> tuple[Path, Run]:
    """Move old events to files in ``folder``, by default ``archive`` in the state folder; where they went, and what they are.

    Raises what ``adapters.postgres.archive`` raises.
    """
    from tamma.adapters.postgres.archive import archive

    loaded = load(config)
    target = (folder or database.state_folder(loaded) / "archive").resolve()
    database.require_outside(loaded, target)
    reach = parts.fail_points(loaded).reach
    age = timedelta(days=older_than_days)
    return target, archive(_url(loaded), target, older_than=age, files_max=files_max, reach=reach)


def find_archivable(config: Path | None, *, older_than_days: int) -> list[Due]:
    """What ``archive_log`` would take. Writes nothing."""
    from tamma.adapters.postgres.archive import find_due

    return find_due(_url(load(config)), older_than=timedelta(days=older_than_days))


def exported_heads(config: Path | None) -> list[str]:
    """The head of every stream, as lines. Kept elsewhere, they prove that no history was written anew."""
    from tamma.adapters.postgres.verify import heads
    from tamma.bootstrap.heads import lines_of

    return list(lines_of(heads(_url(load(config)))))


def back_up(config: Path | None, target: Path, *, with_proof: bool) -> tuple[Manifest, Report | None]:
    """Write a backup, and prove it by restoring it into a scratch database. Raises what ``adapters.postgres.backup`` raises."""
    from tamma.adapters.postgres import backup

    loaded = load(config)
    database.require_outside(loaded, target)
    url = _url(loaded)
    taken = backup.take(url, target)
    return taken, backup.prove(url, target) if with_proof else None


def restore(config: Path | None, source: Path) -> tuple[Manifest, Report]:
    """Load a backup into the configured database, or a new embedded one, and verify it."""
    from tamma.adapters.postgres import backup
    from tamma.adapters.postgres.verify import verify

    loaded = load(config)
    backup.require_whole(source)  # before anything is made for it
    url = database.configured_url(loaded)
    if url is None:
        database.make_state_folder(loaded)
        url = database.embedded(loaded).start()
    return backup.put_back(url, source), verify(url)


def grant_rights(config: Path | None, role: str, rights: str) -> None:
    """Give a role of the database what it needs, as ``app`` or as ``reader``."""
    from tamma.adapters.postgres.grants import Rights, grant

    grant(_url(load(config)), role, Rights(rights))


def _url(loaded: Loaded) -> str:
    return database.ready_url(loaded, may_create=False)
