"""``tamma orchestrate``: the blocking loop."""

from __future__ import annotations

from typing import Annotated

import typer

from tamma.cli.ending import put
from tamma.cli.options import Globals
from tamma.cli.work import LogJson
from tamma.core.errors import ConfigError, ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("orchestrate")(orchestrate)


def orchestrate(
    ctx: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Look at everything once, then wait for the workers that this started.")
    ] = False,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Go on until nothing is left to do.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the next tick would do; write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Local worker processes, in place of limits.workers; with its bounds."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Events as JSON lines; what a dry run saw and would do as one JSON document.")
    ] = False,
    log_json: LogJson = False,
) -> None:
    """Select issues, queue tasks, dispatch workers, repair what broke; everything is kept in Postgres.

    The first SIGTERM, SIGINT or SIGHUP drains, the second stops the workers, the third kills them. Exits 0 when idle or cleanly
    drained, 2 for a configuration error, 75 if the database is away at the start, (--once) goes away meanwhile, or
    (--until-idle) nothing is left to do but the forge was away or work is paused, 130 or 143 when aborted.
    """
    if once and until_idle:
        raise ConfigError("--once and --until-idle exclude each other", fix="choose one")
    if dry_run:
        raise typer.Exit(_dry_run(ctx.obj, workers=workers, as_json=json))
    raise typer.Exit(
        int(
            _run(
                ctx.obj,
                once=once,
                until_idle=until_idle,
                workers=workers,
                as_json=json,
                log_format="json" if log_json else None,
            )
        )
    )


def _run(
    globals_: Globals, *, once: bool, until_idle: bool, workers: int | None, as_json: bool, log_format: str | None
) -> ExitCode:
    from tamma import bootstrap
    from tamma.cli.garbage import collect_as_usual
    from tamma.cli.live import Progress
    from tamma.cli.signals import on_signals
    from tamma.cli.tally import Tally
    from tamma.engine.orchestrator import Mode

    mode = Mode.ONCE if once else Mode.UNTIL_IDLE if until_idle else Mode.FOREVER
    with bootstrap.open_orchestrator(globals_.config, workers=workers, log_format=log_format) as session:
        loop = session.orchestrator
        on_signals(loop.signal)
        tally = Tally()  # which grows with every task: nothing for a loop that stays
        with Progress(session.open_store, as_json=as_json, tally=tally if until_idle else None) as progress:
            loop.report = progress.say
            for line in session.troubles:
                progress.say(line)
            collect_as_usual()
            exit_code = loop.run(mode)
        if until_idle and not as_json:  # once the log was read to its end
            is_idle = exit_code is ExitCode.DELIVERED and not loop.interruption.is_set
            if is_idle or not tally.is_empty:  # else why it ended is all there is to tell
                put(f"{'idle' if is_idle else 'ended'}: {tally.told()}")
        return exit_code


def _dry_run(globals_: Globals, *, workers: int | None, as_json: bool) -> int:
    from tamma import bootstrap
    from tamma.cli.render import action_line, look_values, print_json, print_lines

    sighting, actions, troubles = bootstrap.look_ahead(globals_.config, workers=workers)
    if as_json:
        print_json(look_values(sighting, actions, troubles))
        return 0
    print_lines([str(action_line(action)) for action in actions] or ["nothing to do"])
    print_lines(
        [f"no new task for {c.issue.ref}: {c.against[0].text}" for c in sighting.view.prospects if c.against]
        + [f"no new task for {bad.ref}: {bad.why}" for bad in sighting.malformed]
        + [f"not looked at: {name}: {why}" for name, why in (*sighting.away, *sighting.unread)]
        + [f"the agent of {name} cannot be started: {error}; {error.fix}" for name, error in troubles.items()]
    )
    return 0
