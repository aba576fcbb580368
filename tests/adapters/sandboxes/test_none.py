"""A box without walls still has a clean environment, folders of its own, and no survivors."""

from __future__ import annotations

import gc
import subprocess
import time
from pathlib import Path

import pytest

from tamma.adapters.sandboxes.none import DEFAULT_ENV_ALLOW, SETUP_ENV_ALLOW, NoSandbox
from tamma.adapters.system import OsProcesses
from tamma.core.errors import PermanentError
from tamma.ports.system import Stop
from tests.support.machine import PATH, PYTHON, a_sandbox, a_tag, alive, eventually, limits

PARENT = {
    "PATH": PATH,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/home/of/the/operator",
    "GIT_DIR": "x",
    "DATABASE_URL": "postgresql://secret",
    "TAMMA_DATABASE__URL": "postgresql://secret",
    "GITHUB_TOKEN": "secret",
    "PIP_INDEX_URL": "http://registry.test/",
    "HTTPS_PROXY": "http://proxy.test/",
    "MODEL_KEY": "for the agent",
}


def environment(sandbox: NoSandbox, folder: Path, **env: str) -> dict[str, str]:
    done = sandbox.box(folder, tag="t:1").spawn(["env"], env=env, limits=limits())
    return dict(line.split("=", 1) for line in done.output.splitlines())


def test_only_what_is_allowed_reaches_a_box(tmp_path: Path) -> None:
    """From scratch, then the operator's list, then what the call adds."""
    sandbox = NoSandbox(OsProcesses(), env_allow=(*DEFAULT_ENV_ALLOW, "MODEL_KEY"), environ=PARENT)
    env = environment(sandbox, tmp_path, EXTRA="1")
    assert set(env) - {"PWD", "SHLVL", "_"} == {
        "PATH", "LANG", "TZ", "HOME", "TMPDIR", "TAMMA_BOX", "MODEL_KEY", "EXTRA",
    }  # fmt: skip
    assert env["HOME"] != PARENT["HOME"]
    assert env["TAMMA_BOX"].startswith("t:1:")


def test_what_package_registries_take_goes_to_set_up_alone(tmp_path: Path) -> None:
    """Those names carry credentials: an agent or a gate that prints its environment shows none of them."""
    secrets = {"PIP_INDEX_URL": "https://user:pw@registry.test/", "NPM_CONFIG__AUTH": "x", "UV_PUBLISH_TOKEN": "x"}
    agents = environment(NoSandbox(OsProcesses(), env_allow=DEFAULT_ENV_ALLOW, environ=PARENT | secrets), tmp_path)
    setup = environment(NoSandbox(OsProcesses(), env_allow=SETUP_ENV_ALLOW, environ=PARENT | secrets), tmp_path)
    assert {*secrets, "HTTPS_PROXY"}.isdisjoint(agents)
    assert {*secrets, "HTTPS_PROXY"} <= set(setup)


def test_no_wildcard_lets_ours_through(tmp_path: Path) -> None:
    """``*`` is never meant to hand out the database."""
    env = environment(NoSandbox(OsProcesses(), env_allow=("*",), environ=PARENT), tmp_path)
    assert {"GIT_DIR", "DATABASE_URL", "TAMMA_DATABASE__URL"}.isdisjoint(env)
    assert environment(NoSandbox(OsProcesses(), env_allow=("GIT_DIR",), environ=PARENT), tmp_path)["GIT_DIR"] == "x"


def test_home_and_tmpdir_are_private_and_go_with_the_box(tmp_path: Path) -> None:
    """Two boxes share nothing; nothing stays behind."""
    sandbox = a_sandbox()
    one, two = sandbox.box(tmp_path, tag="t:1"), sandbox.box(tmp_path, tag="t:1")
    script = 'echo x > "$HOME/f" && echo x > "$TMPDIR/f" && echo "$HOME" && stat -c %a "$HOME" "$TMPDIR"'
    first = one.spawn(["sh", "-c", script], env={}, limits=limits()).output.splitlines()
    second = two.spawn(["sh", "-c", script], env={}, limits=limits()).output.splitlines()
    assert first[0] != second[0]
    assert first[1:] == ["700", "700"]
    del one, two
    gc.collect()
    assert not Path(first[0]).exists()


def test_the_next_attempt_removes_the_folders_of_a_killed_worker(tmp_path: Path) -> None:
    """Even those without permissions; never those of a living worker, nor of another task; and none is made for others to read."""
    boxes, script = tmp_path / "boxes", (
        "from pathlib import Path; import os, sys\n"
        "from tamma.adapters.sandboxes.none import NoSandbox; from tamma.adapters.system import OsProcesses\n"
        "from tests.support.machine import limits\n"
        "box = NoSandbox(OsProcesses(), env_allow=(), environ={}, boxes=Path(sys.argv[1])).box(Path('/'), tag='t:1')\n"
        "box.spawn(['sh', '-c', 'mkdir -p $HOME/a/b && chmod 0 $HOME/a'], env={}, limits=limits())\n"
        "os.kill(os.getpid(), 9)"
    )  # fmt: skip
    assert subprocess.run([PYTHON, "-c", script, str(boxes)], check=False).returncode == -9
    [left] = boxes.iterdir()
    sandbox = NoSandbox(OsProcesses(), env_allow=(), environ={"PATH": PATH}, boxes=boxes)
    sandbox.sweep("t9:")
    assert left.exists()
    living = sandbox.box(tmp_path, tag="t:2")
    sandbox.sweep("t:")
    assert not left.exists()
    assert len(list(boxes.iterdir())) == 1
    assert boxes.stat().st_mode & 0o777 == 0o700
    assert living.spawn(["sh", "-c", 'test -d "$TMPDIR"'], env={}, limits=limits()).is_ok
    del living
    gc.collect()
    assert list(boxes.iterdir()) == []


def test_a_place_for_boxes_that_others_hold_is_not_used(tmp_path: Path) -> None:
    """Its name can be known, so anybody may have made it first: open to others, or a link."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    for name in ("open", "link"):
        sandbox = NoSandbox(OsProcesses(), env_allow=(), environ={"PATH": PATH}, boxes=tmp_path / name)
        assert not environment(sandbox, tmp_path)["HOME"].startswith(str(tmp_path))


def test_a_box_works_in_its_folder_and_not_outside(tmp_path: Path) -> None:
    """``cwd`` is below the folder, links resolved."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    box = a_sandbox().box(tmp_path / "in", tag="t:1")
    assert box.spawn(["pwd"], env={}, limits=limits(), cwd="sub").output.strip() == str(tmp_path / "in" / "sub")
    for cwd in ("..", "/", "out"):
        with pytest.raises(PermanentError):
            box.spawn(["pwd"], env={}, limits=limits(), cwd=cwd)


def test_a_box_ends_what_runs_when_the_attempt_stops(tmp_path: Path) -> None:
    """``should_stop`` is the box's, not the agent's."""
    box = a_sandbox().box(tmp_path, tag="t:1", should_stop=lambda: True)
    assert box.spawn(["sleep", "60"], env={}, limits=limits()).stop is Stop.ASKED


def test_a_sweep_ends_what_a_killed_worker_left(tmp_path: Path) -> None:
    """Marked processes of the same task go, of another stay; even those deaf to SIGTERM; the sweeper lives."""
    task, other = a_tag().partition(":")[0], a_tag()
    script = "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    children = [
        subprocess.Popen([PYTHON, "-c", script], env={"TAMMA_BOX": tag}, start_new_session=True, stdout=subprocess.PIPE)
        for tag in (f"{task}:1:abc", f"{task}:2:def", task + "9:1", other)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
    assert a_sandbox().sweep(f"{task}:") == 2
    assert alive(task) == []
    assert [child.poll() is None for child in children] == [False, False, True, True]
    for child in children:
        child.kill()
        child.wait()
    assert a_sandbox().sweep(f"{task}:") == 0


def test_a_sweep_spares_another_installation(tmp_path: Path) -> None:
    """Two installations give the same issue the same task id: each ends only what its own boxes hold."""
    tag = a_tag()
    ours, theirs = (
        NoSandbox(OsProcesses(), env_allow=(), environ={"PATH": PATH}, realm=name) for name in ("ours", "theirs")
    )
    held = theirs.box(tmp_path, tag=tag).spawn(["sh", "-c", 'printf %s "$TAMMA_BOX"'], env={}, limits=limits()).output
    child = subprocess.Popen(["sleep", "600"], env={"PATH": PATH, "TAMMA_BOX": held}, start_new_session=True)
    try:
        assert ours.sweep(tag) == 0
        assert theirs.sweep(tag) == 1
    finally:
        child.kill()
        child.wait()


def test_a_sweep_takes_the_unmarked_below_a_warden_too(tmp_path: Path) -> None:
    """A process that wiped its environment is still in the tree of the warden that gets the signal."""
    tag, worker = a_tag(), (
        "from datetime import timedelta; from pathlib import Path; import sys\n"
        "from tamma.adapters.system import OsProcesses; from tamma.ports.system import ProcessLimits\n"
        "OsProcesses().run(['sh','-c','env -i sleep 600 & echo $! > pid; sleep 600'], cwd=Path(sys.argv[1]),\n"
        "  env={'PATH': sys.argv[2], 'TAMMA_BOX': sys.argv[3]}, limits=ProcessLimits(wall_clock=timedelta(hours=1)))"
    )  # fmt: skip
    process = subprocess.Popen([PYTHON, "-c", worker, str(tmp_path), PATH, tag])
    eventually(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("\n"))
    begun = time.monotonic()
    assert a_sandbox().sweep(tag) >= 2
    assert time.monotonic() - begun < 5
    process.wait(10)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
