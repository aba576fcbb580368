"""Claims about ``tamma db archive``: one command for cron, and every other command says what went and where to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from tests.cli.ends import assert_ok, assert_told
from tests.support.project import Project


def a_year_later(project: Project) -> dict[str, str]:
    """An environment in whose sessions the database reads that time."""
    moment = datetime.now(UTC) + timedelta(days=365)
    mark = "&" if "?" in project.database_url else "?"
    return {"DATABASE_URL": f"{project.database_url}{mark}options={quote(f'-c tamma.fake_now={moment.isoformat()}')}"}


def test_what_is_old_goes_and_everything_says_so(project: Project, tmp_path: Path) -> None:
    """Nothing is due today; in a year all is but the row; then the past is not told wrongly, and the files prove the rest."""
    begin = datetime.now(UTC)
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert "nothing to archive" in assert_ok(project.run("db", "archive", "--older-than-days", "1")).out
    later, to = a_year_later(project), str(tmp_path / "kept")
    would = assert_ok(project.run("db", "archive", "--dry-run", "--json", env=later)).json
    done = assert_ok(project.run("db", "archive", "--to", to, "--json", env=later)).json
    [file] = done["files"]
    assert (file["events"], file["streams"], file["workers_removed"]) == (
        would["events"],
        would["streams"],
        would["workers_removed"],
    )
    assert (Path(done["folder"]) / file["file"]).is_file()
    report = assert_ok(project.run("db", "verify", "--archive", to, "--json")).json
    assert (report["problems"], report["archives"], report["archived"]) == ([], 1, file["events"])
    assert file["file"] in assert_ok(project.run("explain", "demo#1")).out
    assert file["file"] in assert_ok(project.run("events", "--task", "demo#1")).err
    assert file["file"] in project.run("task", "patch", "demo#1").err
    assert_told(project.run("status", "--at", begin.isoformat(), env=later), 2, "cannot be told", "next:")
    assert "were archived" in assert_ok(project.run("events", "--at", begin.isoformat(), env=later)).err
    assert "not shown" in assert_ok(project.run("status", "--at", "1d", env=later)).err
    assert_ok(project.run("orchestrate", "--until-idle"))
    assert len(project.changes()) == 1


def test_a_folder_that_cannot_be_written_is_named(project: Project, tmp_path: Path) -> None:
    """Before anything is taken out of the log."""
    assert_ok(project.run("orchestrate", "--until-idle"))
    (tmp_path / "file").write_text("x")
    later = a_year_later(project)
    assert_told(
        project.run("db", "archive", "--to", str(tmp_path / "file" / "below"), env=later), 2, "archive", "next:"
    )
    assert "would archive" in assert_ok(project.run("db", "archive", "--dry-run", env=later)).out
    assert_ok(project.run("db", "verify"))
