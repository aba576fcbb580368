"""What one task does to the shared environment reaches no other."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.environments.test_cache import World, spec

MAKE = (
    "mkdir -p {environment}/lib/__pycache__; echo good > {environment}/lib/a.py; echo byte > {environment}/lib/__pycache__/a.pyc;"
    " ln -s a.py {environment}/lib/link"
)


def opened(path: Path) -> Path:
    """As an agent of the same user opens it to writing again."""
    path.parent.chmod(0o700)
    path.chmod(0o600)
    return path


def change_content(folder: Path) -> None:
    """Of the same length, with the file's old times and modes put back."""
    file = folder / "lib" / "a.py"
    before = file.stat()
    opened(file).write_text("evil\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.chmod(stat.S_IMODE(before.st_mode))
    file.parent.chmod(0o555)


def replace_file(folder: Path) -> None:
    """By a rename."""
    opened(folder / "lib" / "a.py").with_name("b").write_text("evil\n")
    (folder / "lib" / "b").replace(folder / "lib" / "a.py")


def turn_link(folder: Path) -> None:
    """Elsewhere."""
    opened(folder / "lib" / "a.py")
    (folder / "lib" / "link").unlink()
    (folder / "lib" / "link").symlink_to("/etc/passwd")


def remove_file(folder: Path) -> None:
    """Nothing new, but something missing."""
    opened(folder / "lib" / "a.py").unlink()


def hang_stamp(folder: Path) -> None:
    """A FIFO where the stamp was."""
    stamp = folder.with_name(f"{folder.name}.stamp")
    stamp.unlink()
    os.mkfifo(stamp)


def deepen_stamp(folder: Path) -> None:
    """JSON, but deeper than it can be read."""
    stamp = folder.with_name(f"{folder.name}.stamp")
    stamp.unlink()
    stamp.write_text("[" * 50_000)


@pytest.mark.parametrize("poison", [change_content, replace_file, turn_link, remove_file, hang_stamp, deepen_stamp])
def test_a_changed_environment_is_built_anew(tmp_path: Path, poison: Callable[[Path], None]) -> None:
    """Whoever runs in it next gets what the set-up makes; whoever still runs in the changed one keeps it till his end."""
    world = World(tmp_path)
    with world.prepare(spec(MAKE)) as first:
        poison(first.folder)
        with world.prepare(spec(MAKE)) as second:
            assert not second.is_cached
            assert second.folder != first.folder
            assert first.folder.is_dir()
            assert (second.folder / "lib" / "a.py").read_text() == "good\n"
    with world.prepare(spec(MAKE)) as third:
        assert (third.folder, third.is_cached) == (second.folder, True)
        assert not first.folder.exists()


def test_what_was_added_to_an_environment_is_gone_at_the_next_use(tmp_path: Path) -> None:
    """Bytecode that Python wrote, a module that an agent put there: none of it costs a build, none of it stays."""
    world = World(tmp_path)
    with world.prepare(spec(MAKE)) as first:
        lib = first.folder / "lib"
        lib.chmod(0o755)
        (lib / "sitecustomize.py").write_text("evil")
        (lib / "deep" / "er").mkdir(parents=True)
        opened(lib / "__pycache__" / "a.pyc").write_text("evil")
        (lib / "__pycache__").chmod(0o555)
        lib.chmod(0o555)
    with world.prepare(spec(MAKE)) as second:
        assert (second.folder, second.is_cached) == (first.folder, True)
        assert sorted(path.name for path in lib.iterdir()) == ["__pycache__", "a.py", "link"]
        assert list((lib / "__pycache__").iterdir()) == []


def test_a_built_environment_is_closed_to_writing_and_shares_no_file(tmp_path: Path) -> None:
    """An installer's cache keeps its modes and its content; links within stay links."""
    cache = tmp_path / "installer"
    cache.mkdir()
    (cache / "wheel").write_text("content")
    make = f"ln {cache}/wheel {{environment}}/one; ln {{environment}}/one {{environment}}/two; touch {{environment}}/run; chmod 755 {{environment}}/run"
    with World(tmp_path).prepare(spec(make)) as made:
        one, two, run = (made.folder / name for name in ("one", "two", "run"))
        assert (one.stat().st_ino, one.stat().st_nlink) == (two.stat().st_ino, 2)
        assert (cache / "wheel").stat().st_nlink == 1
        assert (cache / "wheel").stat().st_mode & stat.S_IWUSR
        assert stat.S_IMODE(run.stat().st_mode) == 0o555
        assert not any(path.stat().st_mode & 0o222 for path in (made.folder, one, run))
