"""Where benchmarks run: a temporary folder, and an embedded Postgres in it with a database for each that asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade

ROOT: Final = Path(__file__).parents[2]


class Place:
    """A folder of our own; the server in it starts when first asked for. Its commits are durable, its settings Tamma's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def server(self) -> EmbeddedPostgres:
        """The running server."""
        server = EmbeddedPostgres(self.folder / "postgres")
        server.start()
        return server

    def database(self, name: str, *, with_schema: bool = True) -> str:
        """A new database; ``with_schema`` gives it Tamma's."""
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        url = self.server.url(name)
        if with_schema:
            upgrade(url)
        return url

    def fresh_folder(self, name: str) -> Path:
        """An empty folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@contextmanager
def a_place() -> Iterator[Place]:
    """A place that leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="tamma-bench-"))
    folder.chmod(0o711)  # as root, the server's own user must reach its programs
    try:
        yield Place(folder)
    finally:
        EmbeddedPostgres(folder / "postgres").stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def run(
    argv: Sequence[str | Path], *, at: Path, env: Mapping[str, str] | None = None, stdin: bytes = b"", ok: int = 0
) -> str:
    """What a command printed; an end other than ``ok`` is an error with its last words."""
    whole = {**os.environ, **(env or {})}
    done = subprocess.run(list(map(str, argv)), cwd=at, env=whole, input=stdin, capture_output=True, check=False)
    if done.returncode != ok:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2_000:]
        raise RuntimeError(f"{argv[0]} {argv[1:4]} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
