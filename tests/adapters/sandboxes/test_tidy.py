"""Folders of boxes whose worker died are removed, whichever task they belonged to."""

from __future__ import annotations

from pathlib import Path

from tamma.adapters.sandboxes.none import NoSandbox
from tamma.adapters.system import OsProcesses


def test_only_what_nobody_holds_goes(tmp_path: Path) -> None:
    """A living box keeps its HOME."""
    boxes = tmp_path / "boxes"
    sandbox = NoSandbox(OsProcesses(), env_allow=(), environ={}, boxes=boxes)
    box = sandbox.box(tmp_path, tag="task:1")
    [living] = boxes.iterdir()
    (boxes / "0123456789-dead" / "home").mkdir(parents=True)
    sandbox.tidy()
    assert list(boxes.iterdir()) == [living]
    assert (living / "home").is_dir()
    del box
