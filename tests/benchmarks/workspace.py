"""A checkout to work in: a warm mirror and a private git-dir, against ``git clone``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

from tamma.adapters.git import GitWorkspaces
from tamma.core.ids import TaskId
from tamma.ports.workspace import Remote
from tests.benchmarks.measure import Benchmark, Figure, in_turn, less_is_better, seconds_of
from tests.benchmarks.place import Place, run

_COMMITS: Final = 20_000
_FILES: Final = 5_000
_FILES_PER_FOLDER: Final = 50


def workspace(place: Place, rounds: int) -> Iterator[Figure]:
    """Ask the remote where it is, fetch what is new (here nothing), check out: both sides end with all files on disk.

    Nothing is removed between the rounds: on ext4, making files right after thousands were deleted is several times slower,
    and which side pays for it is chance.
    """
    bare = _repository(place)
    workspaces = GitWorkspaces(state=place.fresh_folder("workspace-state"))
    remote = Remote(name="demo", url=bare.as_uri())
    numbers = count(1)
    with ExitStack() as stack:

        def ours() -> float:
            folders: list[Path] = []

            def opened() -> None:
                base = workspaces.fetch_base(remote)
                at = stack.enter_context(workspaces.open(remote, base, task_id=TaskId(str(uuid4())), epoch=1))
                folders.append(at.folder)

            taken = seconds_of(opened)
            _check(folders[0])
            return taken

        def clone(url: str) -> float:
            target = place.folder / f"clone-{next(numbers)}"
            taken = seconds_of(lambda: run(["git", "clone", "-q", url, target], at=place.folder))
            _check(target)
            return taken

        sides: dict[str, Callable[[], float]] = {
            "ours": ours,
            "url": partial(clone, bare.as_uri()),
            "path": partial(clone, str(bare)),
        }
        ours()  # the first one fills the mirror
        found = in_turn(rounds, sides)
    yield less_is_better("workspace-clone", found["ours"], found["url"], peer="git clone file://…", unit="s")
    yield less_is_better(
        "workspace-hard-links", found["ours"], found["path"], peer="git clone /path (hard links)", unit="s"
    )


def _check(folder: Path) -> None:
    found = sum(1 for _ in folder.glob("src/*/*.txt"))
    assert found == _FILES, found


def _repository(place: Place) -> Path:
    """5,000 files, and 20,000 commits that each change one of them."""
    bare = place.fresh_folder("big.git")
    run(["git", "init", "-q", "--bare", "-b", "main", "."], at=bare)
    run(["git", "fast-import", "--quiet"], at=bare, stdin="".join(_history()).encode())
    run(["git", "gc", "-q"], at=bare)
    return bare


def _history() -> Iterator[str]:
    for number in range(_COMMITS):
        files = range(_FILES) if number == 0 else [number * 7 % _FILES]
        yield f"commit refs/heads/main\nmark :{number + 1}\ncommitter A <a@example.invalid> {1_700_000_000 + number} +0000\n"
        yield _data(f"Commit {number}\n")
        yield f"from :{number}\n" if number else ""
        for file in files:
            text = "".join(
                f"line {line} of file {file}, commit {number if line % 9 == 0 else 0}\n" for line in range(40)
            )
            yield f"M 100644 inline src/{file // _FILES_PER_FOLDER:03}/{file:04}.txt\n{_data(text)}"


def _data(text: str) -> str:
    return f"data {len(text)}\n{text}\n"


BENCHMARKS: Final = (Benchmark(name="workspace", gives=("workspace-clone", "workspace-hard-links"), run=workspace),)
