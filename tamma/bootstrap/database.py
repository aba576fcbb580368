"""Which database, and is it fit: a configured URL, or the embedded server in the state folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tamma.core.errors import PASSING, ConfigError, TransientError, remedy

if TYPE_CHECKING:
    from tamma.adapters.postgres.embedded import EmbeddedPostgres
    from tamma.adapters.postgres.store import PostgresStore
    from tamma.config.loader import Loaded


def embedded(loaded: Loaded) -> EmbeddedPostgres:
    """The embedded server of this state folder, whether or not it exists."""
    from tamma.adapters.postgres.embedded import EmbeddedPostgres

    return EmbeddedPostgres(_cluster(loaded))


def require_outside(loaded: Loaded, target: Path) -> None:
    """Raises ConfigError for a place in the embedded server's own folder: what lies there is lost with the database."""
    cluster = _cluster(loaded).resolve()
    if target.resolve().is_relative_to(cluster):
        raise ConfigError(
            f"{target} lies in the database's own folder",
            why=f"{cluster} is the server's alone; what else is there is lost with it",
            fix="name a place outside, on another disk if there is one",
        )


def _cluster(loaded: Loaded) -> Path:
    return state_folder(loaded) / "postgres"


def state_folder(loaded: Loaded) -> Path:
    """Where everything that Tamma keeps on disk lies."""
    return loaded.resolve(loaded.config.state.folder)


def has_database(loaded: Loaded) -> bool:
    """Whether a URL is configured, or an embedded cluster exists."""
    return bool(configured_url(loaded)) or embedded(loaded).exists()


def configured_url(loaded: Loaded) -> str | None:
    """The URL of a server that is not ours."""
    return loaded.database_url


def make_state_folder(loaded: Loaded) -> Path:
    """The state folder, made if need be; git leaves it alone. Raises ConfigError if it cannot be made, and
    TransientError where the machine is only out of space or descriptors."""
    folder = state_folder(loaded)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        if error.errno in PASSING:
            raise TransientError(
                f"the state folder {folder} cannot be made", why=str(error), fix=remedy(error.errno)
            ) from error
        raise ConfigError(
            f"the state folder {folder} cannot be made",
            why=f"it is a link to {folder.readlink()}, which is not there" if _dangles(folder) else str(error),
            fix="set state.folder to a place you may write to",
        ) from error
    return folder


def _dangles(folder: Path) -> bool:
    return folder.is_symlink() and not folder.exists()


def ready_url(
    loaded: Loaded, *, may_create: bool, fix: str = "`tamma orchestrate` makes one; or set DATABASE_URL"
) -> str:
    """The address of a database whose schema is current.

    An embedded one is started and upgraded by itself; a foreign one is never touched. Raises ConfigError if there is none
    and none may be made, or a foreign one is behind or ahead; TransientError if it is away.
    """
    from tamma.bootstrap.schema import require_current, upgrade_quickly

    url = configured_url(loaded)
    if url is not None:
        require_current(url)
        return url
    server = embedded(loaded)
    if not may_create and not server.exists():
        why = f"none is configured, and none lies in {state_folder(loaded)}"
        raise loaded.missing("there is no database yet", why=why, fix=fix)
    make_state_folder(loaded)
    url = server.start()
    if may_create:
        upgrade_quickly(url)
    else:
        require_current(url)
    return url


def running_url(loaded: Loaded) -> str | None:
    """The address of a configured database, or of an embedded one that runs; None otherwise. Starts and changes nothing.

    Raises ConfigError if its schema is not current, TransientError if a configured one is away.
    """
    from tamma.bootstrap.schema import require_current

    url, server = configured_url(loaded), embedded(loaded)
    if url is None and server.exists() and server.is_running():
        url = server.url()
    if url is not None:
        require_current(url)
    return url


def open_store(
    loaded: Loaded,
    url: str,
    *,
    application_name: str,
    connections_max: int | None = None,
    patience: timedelta | None = None,
) -> PostgresStore:
    """A store of its own; ``patience`` is for a database that goes away while it is used."""
    from tamma.adapters.postgres.connect import Timeouts
    from tamma.adapters.postgres.connections import connections_for
    from tamma.adapters.postgres.pool import PATIENCE
    from tamma.adapters.postgres.store import PostgresStore

    settings = loaded.config.database
    connections = connections_for(
        url,
        application_name=application_name,
        connections_max=connections_max or settings.pool_size_max,
        timeouts=Timeouts(
            connect=timedelta(seconds=settings.connect_timeout_seconds),
            statement=timedelta(seconds=settings.statement_timeout_seconds),
        ),
    )
    listen_url = loaded.direct_url or (url if configured_url(loaded) is None else None)
    return PostgresStore(connections, listen_url=listen_url, patience=PATIENCE if patience is None else patience)


def stop(loaded: Loaded) -> str:
    """Stop the embedded server."""
    if configured_url(loaded) is not None:
        raise ConfigError(
            "this database is not Tamma's to stop", why="a URL is configured", fix="stop it where it runs"
        )
    return "stopped" if embedded(loaded).stop() else "it was not running"


def upgrade(loaded: Loaded) -> str:
    """Bring the schema up to date; what was done, in words."""
    from tamma.adapters.postgres import migrate

    url = configured_url(loaded)
    if url is None:
        make_state_folder(loaded)
        url = embedded(loaded).start()
    before = migrate.status(url)
    after = migrate.upgrade(url)
    return f"the schema is at {after.current}" + (
        "" if before.current == after.current else f" (was {before.current or 'empty'})"
    )
