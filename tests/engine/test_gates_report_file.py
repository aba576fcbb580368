"""Claims about the report file, which the code under test may replace by anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tamma.core.junit import ReportUnreadable
from tamma.engine import report_file
from tamma.engine.report_file import ReportPath, prepare_report, read_report
from tests.support.few_files import files_left

PLACE = ReportPath(("out", "r.xml"))


def test_a_report_is_read(tmp_path: Path) -> None:
    """A regular file's bytes; None where there is none."""
    assert read_report(tmp_path, PLACE) is None
    (tmp_path / "out").mkdir()
    assert read_report(tmp_path, PLACE) is None
    (tmp_path / "out" / "r.xml").write_bytes(b"x")
    assert read_report(tmp_path, PLACE) == b"x"


def test_a_process_without_files_left_says_nothing_about_the_report(tmp_path: Path) -> None:
    """It could be there and be read, so the attempt is tried again later, and not charged with it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.xml").write_bytes(b"x")
    with files_left(0), pytest.raises(OSError, match="Too many open files"):
        read_report(tmp_path, PLACE)
    assert read_report(tmp_path, PLACE) == b"x"


def test_stale_reports_are_removed(tmp_path: Path) -> None:
    """A report committed in the tree is not this run's; a link is removed, not followed."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    folder = tmp_path / "co"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "r.xml").write_bytes(b"stale")
    prepare_report(folder, PLACE, with_folder=False)
    assert read_report(folder, PLACE) is None
    (folder / "out" / "r.xml").symlink_to(outside)
    prepare_report(folder, PLACE, with_folder=False)
    assert outside.read_bytes() == b"mine"
    (folder / "out" / "r.xml").mkdir()
    prepare_report(folder, PLACE, with_folder=False)
    assert read_report(folder, PLACE) is None


def test_our_own_report_folder_is_made_new(tmp_path: Path) -> None:
    """Even if the tree holds a link of that name."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "co"
    folder.mkdir()
    (folder / "out").symlink_to(elsewhere)
    prepare_report(folder, PLACE, with_folder=True)
    assert (folder / "out").is_dir()
    assert not (folder / "out").is_symlink()


def test_nothing_but_a_regular_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, pipes, folders, links on the way and giants are refused, at once."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"<testsuites/>")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "r.xml").write_bytes(b"<testsuites/>")
    folder = tmp_path / "co"
    (folder / "out").mkdir(parents=True)
    report = folder / "out" / "r.xml"
    report.symlink_to(secret)
    with pytest.raises(ReportUnreadable):
        read_report(folder, PLACE)
    report.unlink()
    os.mkfifo(report)
    with pytest.raises(ReportUnreadable):
        read_report(folder, PLACE)
    report.unlink()
    report.mkdir()
    with pytest.raises(ReportUnreadable):
        read_report(folder, PLACE)
    report.rmdir()
    report.write_bytes(b"12345")
    monkeypatch.setattr(report_file, "BYTES_MAX", 4)
    with pytest.raises(ReportUnreadable):
        read_report(folder, PLACE)
    report.unlink()
    (folder / "out").rmdir()
    (folder / "out").symlink_to(tmp_path / "real")
    with pytest.raises(ReportUnreadable):
        read_report(folder, PLACE)
    with pytest.raises(ReportUnreadable):
        prepare_report(folder, PLACE, with_folder=False)


@pytest.mark.parametrize("text", ["/abs/r.xml", "../r.xml", "a/../../r.xml", "", ".", "a\x00b"])
def test_a_report_stays_in_the_checkout(text: str) -> None:
    """The operator's slip is told, not obeyed."""
    with pytest.raises(ReportUnreadable):
        ReportPath.parse(text)
