"""``tamma db …``: migrate, prove, archive, back up, restore."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamma.cli.group import Group
from tamma.core.errors import ExitCode
from tamma.core.words import counted

if TYPE_CHECKING:
    from tamma.adapters.postgres.archive import Due, Run
    from tamma.adapters.postgres.verify import Report

Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]

database = typer.Typer(
    cls=Group,
    help="The database: migrate, prove, archive, back up, restore, stop the embedded server.",
    no_args_is_help=True,
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
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", help="Where `tamma db archive` wrote to: the files must be what the log says.", file_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Prove that the event log is whole and that the tables say what it says. Exits 1 if not, and names what is wrong."""
    from tamma import bootstrap
    from tamma.cli.render import print_json

    report = bootstrap.verify_database(ctx.obj.config, heads=heads, archive=archive)
    if json:
        problems = [{"where": problem.where, "what": problem.what} for problem in report.problems]
        looked_at = {"events": report.events, "streams": report.streams, "rules": report.rules}
        print_json({**looked_at, "archives": report.archives, "archived": report.archived, "problems": problems})
    else:
        _print_report(report)
    raise typer.Exit(int(ExitCode.BUG) if report.problems else 0)


@database.command("heads")
def db_heads(ctx: typer.Context) -> None:
    """Print each stream's last version and hash as JSON lines and their number, to be kept where the database's owner cannot write."""
    from tamma import bootstrap
    from tamma.cli.render import print_lines

    print_lines(bootstrap.exported_heads(ctx.obj.config))


@database.command("archive")
def db_archive(
    ctx: typer.Context,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="The folder for the files; made if need be.  [default: archive in the state folder]",
            file_okay=False,
        ),
    ] = None,
    older_than_days: Annotated[
        int, typer.Option("--older-than-days", min=1, max=36_500, help="How long ago it ended, and was last touched.")
    ] = 90,
    files_max: Annotated[
        int, typer.Option("--files-max", min=1, max=10_000, help="At most so many files now; the next run goes on.")
    ] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Move the events of tasks that ended long ago, and of workers that left, to files that the log can still be proven by.

    The row of each issue's newest task stays. Safe beside running loops, killed anywhere, and twice at once; only for the
    owner of the database. Exits 1 if something that is not whole was therefore left, and names it.
    """
    from tamma import bootstrap
    from tamma.cli.render import print_json, print_lines

    if dry_run:
        due = bootstrap.find_archivable(ctx.obj.config, older_than_days=older_than_days)
        told = _archivable(due)
        if json:
            print_json(told)
        else:
            print_lines(["would archive " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in told.items())])
        return
    folder, run = bootstrap.archive_log(ctx.obj.config, to, older_than_days=older_than_days, files_max=files_max)
    if json:
        print_json(_archived(folder, run))
    else:
        print_lines([f"{problem.where}: {problem.what}; it stays" for problem in run.problems])
        print_lines(
            [
                f"{folder / fact.file}: {counted(fact.events, 'event')} of {counted(fact.streams, 'stream')}"
                for fact in run.archived
            ]
            or ["nothing to archive"]
        )
        if run.left:
            print_lines([f"{counted(run.left, 'stream')} left for the next run (--files-max)"])
    raise typer.Exit(int(ExitCode.BUG) if run.problems else 0)


def _archivable(due: Sequence[Due]) -> dict[str, int]:
    tasks = [one for one in due if one.stream.startswith("task:")]
    return {
        "events": sum(one.events for one in due),
        "streams": len(due),
        "tasks_removed": sum(not one.is_kept for one in tasks),
        "workers_removed": len(due) - len(tasks),
    }


def _archived(folder: Path, run: Run) -> dict[str, Any]:
    files = [
        {"file": fact.file, "sha256": fact.sha256, "events": fact.events, "streams": fact.streams, "until": fact.until,
         "tasks_removed": fact.tasks_removed, "workers_removed": fact.workers_removed}
        for fact in run.archived
    ]  # fmt: skip
    problems = [{"where": problem.where, "what": problem.what} for problem in run.problems]
    return {"folder": str(folder), "files": files, "left": run.left, "problems": problems}


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
    if report.archives:
        print_lines([f"{report.archived} older events in {counted(report.archives, 'archive')}"])
    print_lines([f"{found}: {report.events} events in {report.streams} streams, chained, folded, {report.rules} rules"])
