"""``tamma db …``: migrate, prove, back up, restore."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamma.core.errors import ExitCode

if TYPE_CHECKING:
    from tamma.adapters.postgres.verify import Report

Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]

database = typer.Typer(
    help="The database: migrate, prove, back up, restore, stop the embedded server.", no_args_is_help=True
)


class As(StrEnum):
    """Whose rights a role gets."""

    APP = "app"
    READER = "reader"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(database, name="db")


@database.command("upgrade")
def db_upgrade(ctx: typer.Context) -> None:
    """Bring the database's schema up to this version of Tamma."""
    from tamma import bootstrap

    typer.echo(bootstrap.upgrade_database(ctx.obj.config))


@database.command("stop")
def db_stop(ctx: typer.Context) -> None:
    """Stop the embedded server, if it runs."""
    from tamma import bootstrap

    typer.echo(bootstrap.stop_database(ctx.obj.config))


@database.command("url")
def db_url(ctx: typer.Context) -> None:
    """Print the address of the embedded server (starting it if needed), for psql and other tools."""
    from tamma import bootstrap

    typer.echo(bootstrap.embedded_url(ctx.obj.config))


@database.command("verify")
def db_verify(
    ctx: typer.Context,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads", help="What `tamma db heads` printed earlier: the log must still contain it.", dir_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Prove that the event log is whole and that the tables say what it says. Exits 1 if not, and names what is wrong."""
    from tamma import bootstrap
    from tamma.cli.render import print_json

    report = bootstrap.verify_database(ctx.obj.config, heads=heads)
    if json:
        problems = [{"where": problem.where, "what": problem.what} for problem in report.problems]
        print_json({"events": report.events, "streams": report.streams, "rules": report.rules, "problems": problems})
    else:
        _print_report(report)
    raise typer.Exit(int(ExitCode.BUG) if report.problems else 0)


@database.command("heads")
def db_heads(ctx: typer.Context) -> None:
    """Print each stream's last version and hash as JSON lines, to be kept where the database's owner cannot write."""
    from tamma import bootstrap
    from tamma.cli.render import print_lines

    print_lines(bootstrap.exported_heads(ctx.obj.config))


@database.command("backup")
def db_backup(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="Where to write it; an older file of this name is replaced.", dir_okay=False)
    ],
    no_proof: Annotated[
        bool, typer.Option("--no-proof", help="Do not restore it into a scratch database to verify it.")
    ] = False,
) -> None:
    """Write every table of one moment to a file, while work goes on, and prove that it can be restored."""
    from tamma import bootstrap
    from tamma.cli.render import print_lines

    taken, report = bootstrap.back_up(ctx.obj.config, file, with_proof=not no_proof)
    print_lines([f"{file}: {taken.rows} rows of {taken.taken_at}, {file.stat().st_size} bytes"])
    if report is not None:
        _print_report(report)
        raise typer.Exit(int(ExitCode.BUG) if report.problems else 0)


@database.command("restore")
def db_restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file of `tamma db backup`.", dir_okay=False)],
) -> None:
    """Load a backup into an empty database, or a new embedded one, and verify it. Exits 1 if it is not whole."""
    from tamma import bootstrap
    from tamma.cli.render import print_lines

    loaded, report = bootstrap.restore(ctx.obj.config, file)
    print_lines([f"restored {loaded.rows} rows of {loaded.taken_at}"])
    _print_report(report)
    raise typer.Exit(int(ExitCode.BUG) if report.problems else 0)


@database.command("grant")
def db_grant(
    ctx: typer.Context,
    role: Annotated[str, typer.Argument(help="A role that exists in the database.")],
    rights: Annotated[As, typer.Option("--as", help="app: what the loop and the workers need. reader: look.")],
) -> None:
    """Give a role the rights it needs; neither kind can change or remove what the event log holds."""
    from tamma import bootstrap

    bootstrap.grant_rights(ctx.obj.config, role, rights.value)
    typer.echo(f"{role} has the rights of {rights}")


def _print_report(report: Report) -> None:
    from tamma.cli.render import print_lines

    print_lines([f"{problem.where}: {problem.what}" for problem in report.problems])
    found = f"{len(report.problems)} problems" if report.problems else "whole"
    print_lines([f"{found}: {report.events} events in {report.streams} streams, chained, folded, {report.rules} rules"])
