"""The mirror: complete, incremental, shared between processes, and whole again after whatever broke it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.git import GitWorkspaces, Transport
from tamma.core.errors import ConfigError, PermanentError, TammaError, TransientError
from tamma.ports.workspace import Base, Remote
from tests.adapters.git.conftest import World, git


def mirror_of(world: World) -> Path:
    """The one mirror of a world."""
    (found,) = (world.tmp / "state/mirrors").glob("*.git")
    return found


def test_base_is_the_remote_s_branch(world: World) -> None:
    """Branch, commit and tree; the default branch where none is named."""
    base = world.workspaces.fetch_base(world.remote)
    assert base.branch == "main"
    assert base.commit == world.heads()["refs/heads/main"]
    assert base.tree == git("rev-parse", "main^{tree}", cwd=world.origin)


def test_named_branch_is_taken(world: World) -> None:
    """A configured base branch wins over the remote's HEAD; slashes and look-alikes do no harm."""
    commit = world.commit({"x": b"1"}, branch="release/1.0")
    world.commit({"x": b"2"}, branch="other/release/1.0")
    remote = Remote(name="demo", url=world.remote.url, base_branch="release/1.0")
    assert world.workspaces.fetch_base(remote).commit == commit


def test_fetch_is_incremental(world: World) -> None:
    """A new commit costs its own objects; nothing new costs no fetch at all."""
    world.commit({f"many/{n}": os.urandom(200) for n in range(300)})
    world.workspaces.fetch_base(world.remote)
    packs = {p.name for p in mirror_of(world).glob("objects/pack/*.pack")}
    size = sum(p.stat().st_size for p in mirror_of(world).rglob("*") if p.is_file())
    commit = world.commit({"one": b"more\n"})
    assert world.workspaces.fetch_base(world.remote).commit == commit
    after = sum(p.stat().st_size for p in mirror_of(world).rglob("*") if p.is_file())
    assert packs <= {p.name for p in mirror_of(world).glob("objects/pack/*.pack")}
    assert after - size < 20_000


def test_rewritten_history_is_followed_and_old_attempts_live_on(world: World) -> None:
    """A force-pushed base branch is taken; a commit that an attempt stands on stays readable."""
    ws = world.open()
    git("commit", "--quiet", "--amend", "--allow-empty", "-m", "rewritten", "--author=x <x@y>", cwd=author(world))
    git("push", "--quiet", "--force", world.origin, "HEAD:main", cwd=world.author)
    base = world.workspaces.fetch_base(world.remote)
    assert base.commit != ws.base.commit
    (ws.folder / "README.md").write_text("still works\n")
    assert len(ws.capture(message="m").changes) == 1


def author(world: World) -> Path:
    """The author's clone, able to commit."""
    git("config", "user.name", "x", cwd=world.author)
    git("config", "user.email", "x@y", cwd=world.author)
    return world.author


def test_repository_without_commits_says_so(make_world: Callable[..., World]) -> None:
    """There is nothing to start from, and the message tells what to do."""
    world = make_world()
    with pytest.raises(PermanentError, match="has no commits") as caught:
        world.workspaces.fetch_base(world.remote)
    assert "push a first commit" in caught.value.fix


def test_missing_branch_names_the_ones_there_are(world: World) -> None:
    """A typing error in base_branch is found at once."""
    with pytest.raises(PermanentError, match="has no branch mian: it has main"):
        world.workspaces.fetch_base(Remote(name="demo", url=world.remote.url, base_branch="mian"))


def test_path_without_repository_is_permanent(world: World, tmp_path: Path) -> None:
    """Waiting does not help; the configuration does."""
    with pytest.raises(PermanentError, match="does not appear to be a git repository") as caught:
        world.workspaces.fetch_base(Remote(name="demo", url=str(tmp_path / "nowhere")))
    assert "url" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("demo", "ext::sh -c id"), ("demo", "fd::17"), ("demo", "--upload-pack=x"), ("demo", "http://example.org/x"),
        ("demo", "git://example.org/x"), ("demo", "https://user:secret@example.org/x"), ("demo", "relative/path"),
        ("demo", "file:///x\n"), ("../x", "file:///x"), ("a/b", "file:///x"), ("", "file:///x"), (".x", "file:///x"),
        ("a..b", "file:///x"),
    ],
)  # fmt: skip
def test_dangerous_remotes_are_configuration_errors(world: World, name: str, url: str) -> None:
    """No url that runs a program, no password in arguments, no name that is not a folder's."""
    with pytest.raises(ConfigError) as caught:
        world.workspaces.fetch_base(Remote(name=name, url=url))
    assert "secret" not in str(caught.value)


def test_changed_url_gets_a_mirror_of_its_own(world: World, tmp_path: Path) -> None:
    """Another repository under the same name never reads the first one's objects; open attempts live on."""
    ws = world.open()
    git("clone", "--quiet", "--bare", world.origin, tmp_path / "second.git", cwd=tmp_path)
    world.workspaces.fetch_base(Remote(name="demo", url=str(tmp_path / "second.git")))
    assert len(list((world.tmp / "state/mirrors").glob("*.git"))) == 2
    assert ws.capture(message="m").is_empty


def break_pack(mirror: Path) -> None:
    """A truncated pack."""
    for pack in [*mirror.glob("objects/pack/*.pack"), *mirror.glob("objects/pack/*.idx")]:
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:40])


def lose_objects(mirror: Path) -> None:
    """All objects gone, the refs still there."""
    for place in [p for p in mirror.glob("objects/*/*") if p.is_file()]:
        place.unlink()


def break_config(mirror: Path) -> None:
    """A config that git cannot read."""
    (mirror / "config").write_text("[core\n")


def lose_head(mirror: Path) -> None:
    """Not a repository any more."""
    (mirror / "HEAD").unlink()


def break_ref(mirror: Path) -> None:
    """A ref of zeros and noise."""
    place = mirror / "refs/tamma/base/main"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("noise\n")


def lose_blobs(mirror: Path) -> None:
    """Commits and trees are there, one file's content is not."""
    packs = list(mirror.glob("objects/pack/*.pack"))
    moved = [pack.rename(mirror / pack.name) for pack in packs]
    for idx in mirror.glob("objects/pack/*.idx"):
        idx.unlink()
    for pack in moved:
        git("unpack-objects", "-q", cwd=mirror, stdin=pack.read_bytes())
        pack.unlink()
    oid = git("rev-parse", "refs/tamma/base/main:README.md", cwd=mirror)
    (mirror / "objects" / oid[:2] / oid[2:]).unlink()


@pytest.mark.parametrize("damage", [break_pack, lose_objects, break_config, lose_head, break_ref, lose_blobs])
@pytest.mark.parametrize("has_news", [False, True])
def test_broken_mirror_is_rebuilt(world: World, damage: Callable[[Path], None], has_news: bool) -> None:
    """Whatever is broken, the next attempt works, with or without something new to fetch."""
    world.workspaces.fetch_base(world.remote)
    damage(mirror_of(world))
    if has_news:
        world.commit({"src/app.py": b"news\n"})
    ws = world.open()
    assert ws.base.commit == world.heads()["refs/heads/main"]
    assert ws.capture(message="m").is_empty
    assert (ws.folder / "README.md").read_text() == "read me\n"


def test_stale_locks_and_leftovers_do_not_stop_a_fetch(world: World) -> None:
    """What a killed git leaves in the mirror is swept away."""
    world.workspaces.fetch_base(world.remote)
    mirror = mirror_of(world)
    for name in ("refs/tamma/base/main.lock", "packed-refs.lock", "config.lock", "objects/pack/tmp_pack_x"):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_text("")
    commit = world.commit({"x": b"1"})
    assert world.workspaces.fetch_base(world.remote).commit == commit
    assert not (mirror / "objects/pack/tmp_pack_x").exists()


def _fetch(state: Path, url: str, gate: Path) -> str:
    while not gate.exists():
        time.sleep(0.001)
    return GitWorkspaces(state=state).fetch_base(Remote(name="demo", url=url)).commit


def test_processes_fetch_one_mirror_at_once(world: World) -> None:
    """First fetch and later ones, from four processes, all get the same base."""
    gate = world.tmp / "gate"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for _ in range(2):
            gate.unlink(missing_ok=True)
            asked = [pool.apply_async(_fetch, (world.tmp / "state", world.remote.url, gate)) for _ in range(4)]
            gate.touch()
            assert {each.get(60) for each in asked} == {world.heads()["refs/heads/main"]}
            world.commit({"x": os.urandom(20)})
    assert git("fsck", "--strict", cwd=mirror_of(world)) == ""


SCRIPT = """
import sys
from datetime import timedelta
from pathlib import Path
from tamma.adapters.git import GitWorkspaces
from tamma.ports.workspace import Remote
print("ready", flush=True)
GitWorkspaces(state=Path(sys.argv[1])).fetch_base(Remote(name="demo", url=sys.argv[2]))
"""


def test_killed_fetch_leaves_a_mirror_that_works(world: World) -> None:
    """SIGKILL at many moments of a first and of later fetches; each next fetch is whole."""
    for n in range(8):
        world.commit({f"big/{n}-{m}": os.urandom(20_000) for m in range(40)})
        argv = [sys.executable, "-c", SCRIPT, str(world.tmp / "state"), world.remote.url]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.008 * n)
            child.send_signal(signal.SIGKILL)
        base = world.workspaces.fetch_base(world.remote)
        assert base.commit == world.heads()["refs/heads/main"]
    git("fsck", "--strict", cwd=mirror_of(world))
    assert world.open().capture(message="m").is_empty


def test_secrets_of_the_transport_do_not_leak(world: World) -> None:
    """Neither errors nor the folders hold the token, and commands on files never get it."""
    token = "canary-token-1234567890"
    asked: list[str] = []

    def transport(remote: Remote) -> Transport:
        asked.append(remote.name)
        config = (("http.extraHeader", f"Authorization: Bearer {token}"), (f"remote.{token}.url", "x"))
        return Transport(env={"GIT_ASKPASS": f"/nowhere/{token}"}, config=config, secrets=(token,))

    workspaces = GitWorkspaces(state=world.tmp / "state", transport=transport)
    base = workspaces.fetch_base(world.remote)
    with workspaces.open(world.remote, base, task_id=world.task, epoch=1) as ws:
        ws.push(base.commit, branch="tamma/1", expected=None)
        with pytest.raises(TammaError) as caught:
            workspaces.fetch_base(Remote(name="demo", url=f"file:///{token}"))
        assert token not in str(caught.value)
        for place in (world.tmp / "state").rglob("*"):
            assert not place.is_file() or token.encode() not in place.read_bytes()
    assert asked


def test_trees_that_git_calls_dangerous_are_not_fetched(world: World) -> None:
    """A commit whose tree holds ``.GIT`` or ``..`` never enters the mirror."""
    blob = git("hash-object", "-w", "--stdin", cwd=world.author, stdin=b"x")
    for name in (b".git", b"..", b".GIT"):
        raw = b"100644 " + name + b"\0" + bytes.fromhex(blob)
        tree = git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", cwd=world.author, stdin=raw)
        commit = git("-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", "-m", "evil", tree, cwd=world.author)
        git("push", "--quiet", "--force", world.origin, f"{commit}:refs/heads/main", cwd=world.author)
        with pytest.raises(PermanentError, match=r"object|fsck") as caught:
            world.workspaces.fetch_base(world.remote)
        assert isinstance(caught.value, TammaError)


def is_running(pid: str) -> bool:
    """Whether a process does anything still; one that only waits to be reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_remote_that_hangs_is_given_up(tmp_path: Path) -> None:
    """A deadline ends the call and the whole process group; the attempt may try again."""
    slow = tmp_path / "ssh"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    workspaces = GitWorkspaces(
        state=tmp_path / "state",
        transport=lambda _: Transport(env={"GIT_SSH_COMMAND": str(slow)}),
        remote_timeout=timedelta(seconds=1),
    )
    with pytest.raises(TransientError, match="took too long"):
        workspaces.fetch_base(Remote(name="demo", url="ssh://example.org/x.git"))
    deadline = time.monotonic() + 10
    while is_running((tmp_path / "pid").read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_base_is_a_value(world: World) -> None:
    """Two looks at an unmoved remote are equal."""
    looks = {world.workspaces.fetch_base(world.remote) for _ in range(2)}
    assert len(looks) == 1
    assert isinstance(looks.pop(), Base)
