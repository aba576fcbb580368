"""What an agent may plant in its tree to make our git run its program or push elsewhere (SECURITY finding 1, C1).

Each vector is planted in the checkout, then the whole life of a change goes by. The canary program must never run, and
the push must reach the right remote and no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tamma.ports.workspace import PushResult
from tests.adapters.git.conftest import IDENTITY, World, git

Plant = Callable[[Path, str, Path], None]


def config(text: str, *, attributes: str = "") -> Plant:
    """Something in the agent's .git/config; {c} is the canary program, {evil} another remote, {url} the right one."""

    def plant(tree: Path, canary: str, evil: Path) -> None:
        url = f"file://{evil.parent / 'origin.git'}"
        with (tree / ".git/config").open("a") as file:
            file.write("\n" + text.format(c=canary, evil=evil, url=url, parent=evil.parent) + "\n")
        if attributes:
            (tree / ".gitattributes").write_text(attributes + "\n")
            (tree / ".git/info").mkdir(exist_ok=True)
            (tree / ".git/info/attributes").write_text(attributes + "\n")

    return plant


def hook(name: str) -> Plant:
    """A hook in the agent's .git."""

    def plant(tree: Path, canary: str, evil: Path) -> None:
        (tree / ".git/hooks").mkdir(exist_ok=True)
        shutil.copy(canary, tree / ".git/hooks" / name)

    return plant


def nested_fsmonitor(tree: Path, canary: str, evil: Path) -> None:
    """A repository inside the tree that runs a program whenever git looks into it."""
    git("init", "--quiet", tree / "sub", cwd=tree)
    (tree / "sub/file").write_text("x")
    git("add", "file", cwd=tree / "sub")
    git(*IDENTITY, "commit", "--quiet", "-m", "inner", cwd=tree / "sub")
    git("config", "core.fsmonitor", canary, cwd=tree / "sub")


def nested_upper_case(tree: Path, canary: str, evil: Path) -> None:
    """The same with .GIT, for file systems that ignore case."""
    nested_fsmonitor(tree, canary, evil)
    (tree / "sub/.git").rename(tree / "sub/.GIT")


def embedded_bare(tree: Path, canary: str, evil: Path) -> None:
    """A bare repository in a plain folder."""
    git("init", "--quiet", "--bare", tree / "bare", cwd=tree)
    git("config", "core.fsmonitor", canary, cwd=tree / "bare")


def git_is_a_link(tree: Path, canary: str, evil: Path) -> None:
    """.git points to a hostile repository elsewhere."""
    git("init", "--quiet", evil.parent / "elsewhere", cwd=tree)
    git("config", "core.fsmonitor", canary, cwd=evil.parent / "elsewhere")
    shutil.rmtree(tree / ".git")
    (tree / ".git").symlink_to(evil.parent / "elsewhere/.git")


def git_is_a_file(tree: Path, canary: str, evil: Path) -> None:
    """.git is a gitfile that names a hostile repository."""
    git_is_a_link(tree, canary, evil)
    (tree / ".git").unlink()
    (tree / ".git").write_text(f"gitdir: {evil.parent / 'elsewhere/.git'}\n")


def git_is_gone(tree: Path, canary: str, evil: Path) -> None:
    """No .git at all; the parent folders must not be searched for one."""
    shutil.rmtree(tree / ".git")


def head_is_a_pipe(tree: Path, canary: str, evil: Path) -> None:
    """Reading .git/HEAD would block for ever."""
    (tree / ".git/HEAD").unlink()
    os.mkfifo(tree / ".git/HEAD")


def config_worktree(tree: Path, canary: str, evil: Path) -> None:
    """Settings in config.worktree."""
    config("[extensions]\n\tworktreeConfig = true")(tree, canary, evil)
    (tree / ".git/config.worktree").write_text(f"[core]\n\tfsmonitor = {canary}\n\thooksPath = {tree}/hooks\n")


def include_path(tree: Path, canary: str, evil: Path) -> None:
    """Settings in an included file of the work tree."""
    (tree / "innocent.txt").write_text(f"[core]\n\tfsmonitor = {canary}\n")
    config("[include]\n\tpath = ../innocent.txt")(tree, canary, evil)


def alternates(tree: Path, canary: str, evil: Path) -> None:
    """Objects from elsewhere."""
    (tree / ".git/objects/info/alternates").write_text(f"{evil / 'objects'}\n")


def replace_refs(tree: Path, canary: str, evil: Path) -> None:
    """A replacement for the base commit."""
    head = git("rev-parse", "HEAD", cwd=tree)
    other = git("commit-tree", "-m", "evil", git("write-tree", cwd=tree), cwd=tree)
    git("replace", "-f", head, other, cwd=tree)


def grafts(tree: Path, canary: str, evil: Path) -> None:
    """Another parent for the base commit."""
    (tree / ".git/info").mkdir(exist_ok=True)
    (tree / ".git/info/grafts").write_text(git("rev-parse", "HEAD", cwd=tree) + "\n")


def index_lock(tree: Path, canary: str, evil: Path) -> None:
    """Stale locks in the agent's .git."""
    for name in ("index.lock", "HEAD.lock", "config.lock"):
        (tree / ".git" / name).write_text("")


def home_config(tree: Path, canary: str, evil: Path) -> None:
    """Dotfiles in the tree, for a git that takes it for a home folder."""
    (tree / ".gitconfig").write_text(f"[core]\n\tfsmonitor = {canary}\n\tsshCommand = {canary}\n")
    (tree / ".config/git").mkdir(parents=True)
    (tree / ".config/git/config").write_text(f"[core]\n\tfsmonitor = {canary}\n")


def submodule_command(tree: Path, canary: str, evil: Path) -> None:
    """A submodule whose update is a command; the audit refuses it, nothing may run meanwhile."""
    (tree / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = ext::{canary}\n\tupdate = !{canary}\n')


DRIVER = '[filter "x"]\n\t{key} = {{c}}\n\trequired = true'
VECTORS: dict[str, Plant] = {
    "core.fsmonitor": config("[core]\n\tfsmonitor = {c}"),
    "core.hooksPath": config("[core]\n\thooksPath = {parent}/hooks"),
    "core.sshCommand": config("[core]\n\tsshCommand = {c}"),
    "core.gitProxy": config("[core]\n\tgitProxy = {c}"),
    "core.editor": config("[core]\n\teditor = {c}\n\tpager = {c}\n[pager]\n\tdiff = {c}"),
    "core.askPass": config("[core]\n\taskPass = {c}"),
    "core.alternateRefsCommand": config("[core]\n\talternateRefsCommand = {c}"),
    "core.worktree": config("[core]\n\tworktree = {evil}"),
    "core.attributesFile": config("[core]\n\tattributesFile = innocent.txt"),
    "filter.clean": config(DRIVER.format(key="clean"), attributes="* filter=x"),
    "filter.smudge": config(DRIVER.format(key="smudge"), attributes="* filter=x"),
    "filter.process": config(DRIVER.format(key="process"), attributes="* filter=x"),
    "diff.command": config('[diff "x"]\n\tcommand = {c}', attributes="* diff=x"),
    "diff.textconv": config('[diff "x"]\n\ttextconv = {c}', attributes="* diff=x"),
    "diff.external": config("[diff]\n\texternal = {c}"),
    "merge.driver": config('[merge "x"]\n\tdriver = {c}', attributes="* merge=x"),
    "gpg.program": config(
        "[gpg]\n\tprogram = {c}\n[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n[log]\n\tshowSignature = true"
    ),
    "url.insteadOf": config('[url "file://{evil}"]\n\tinsteadOf = {url}'),
    "url.pushInsteadOf": config('[url "file://{evil}"]\n\tpushInsteadOf = {url}\n\tpushInsteadOf = file://'),
    "url.insteadOf ext": config('[url "ext::{c} "]\n\tinsteadOf = file://\n[protocol "ext"]\n\tallow = always'),
    "remote.pushurl": config('[remote "origin"]\n\turl = {url}\n\tpushurl = file://{evil}\n\tmirror = true'),
    "remote.uploadpack": config('[remote "{url}"]\n\turl = {url}\n\tuploadpack = {c}\n\treceivepack = {c}'),
    "remote.vcs": config('[remote "{url}"]\n\turl = {url}\n\tvcs = ext'),
    "credential.helper": config("[credential]\n\thelper = !{c}"),
    "alias": config("[alias]\n\tpush = !{c}\n\twrite-tree = !{c}\n\tls-tree = !{c}"),
    "uploadpack.packObjectsHook": config("[uploadpack]\n\tpackObjectsHook = {c}"),
    "protocol.ext": config('[protocol "ext"]\n\tallow = always\n[protocol]\n\tallow = always'),
    "include.path": include_path,
    "config.worktree": config_worktree,
    "hook pre-push": hook("pre-push"),
    "hook post-index-change": hook("post-index-change"),
    "hook reference-transaction": hook("reference-transaction"),
    "hook post-checkout": hook("post-checkout"),
    "hook fsmonitor-watchman": hook("fsmonitor-watchman"),
    "nested .git": nested_fsmonitor,
    "nested .GIT": nested_upper_case,
    "embedded bare repository": embedded_bare,
    ".git is a link": git_is_a_link,
    ".git is a gitfile": git_is_a_file,
    ".git is missing": git_is_gone,
    ".git/HEAD is a pipe": head_is_a_pipe,
    "alternates": alternates,
    "replace refs": replace_refs,
    "grafts": grafts,
    "stale locks": index_lock,
    "dotfiles of a home": home_config,
    ".gitmodules with commands": submodule_command,
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A program that leaves a mark when it is run, whatever its arguments, and every hook folder filled with it."""
    program = tmp_path / "canary"
    program.write_text(f'#!/bin/sh\necho "$0 $@" >> {tmp_path}/ran\ncat >/dev/null 2>&1 </dev/null\nexit 0\n')
    program.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    for name in ("pre-push", "post-checkout", "post-index-change", "reference-transaction", "pre-commit"):
        shutil.copy(program, tmp_path / "hooks" / name)
    return program


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """The attacker's own remote."""
    git("init", "--quiet", "--bare", tmp_path / "evil.git", cwd=tmp_path)
    return tmp_path / "evil.git"


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_planted_runs_or_redirects(world: World, canary: Path, evil: Path, name: str) -> None:
    """The agent's program never runs; the commit reaches our remote, exactly as captured, and no other."""
    ws = world.open()
    VECTORS[name](ws.folder, str(canary), evil)
    (ws.folder / "README.md").write_text("changed\n")
    candidate = ws.capture(message="m")
    with ws.checkout(candidate.tree, name="gate") as folder:
        assert (folder / "README.md").read_text() == "changed\n"
    ws.overlay(candidate, paths=["README.md"])
    world.workspaces.keep(world.remote, candidate.commit, name="kept")
    assert ws.push(candidate.commit, branch="tamma/1", expected=None) is PushResult.MOVED
    assert ws.branch_head("tamma/1") == candidate.commit
    assert ws.restore(candidate.commit).tree == candidate.tree
    assert world.workspaces.fetch_base(world.remote) == ws.base
    assert not (world.tmp / "ran").exists(), (world.tmp / "ran").read_text()
    assert world.heads()["refs/heads/tamma/1"] == candidate.commit
    assert world.heads(evil) == {}
    assert git("rev-parse", "tamma/1^", cwd=world.origin) == ws.base.commit


@pytest.mark.parametrize("name", ["core.fsmonitor", "filter.clean", "nested .git", "include.path"])
def test_probe_is_valid(world: World, canary: Path, evil: Path, name: str) -> None:
    """Control: ordinary git in the same tree does run the canary, so that its silence above means something."""
    ws = world.open()
    VECTORS[name](ws.folder, str(canary), evil)
    (ws.folder / "README.md").write_text("changed\n")
    for verb in (["add", "-A"], ["status"]):
        subprocess.run(["git", "-C", ws.folder, *verb], capture_output=True, timeout=60, check=False)
    assert (world.tmp / "ran").exists()


def test_settings_of_the_trusted_repository_are_written_anew(world: World, canary: Path, evil: Path) -> None:
    """Even an agent without a sandbox, writing into the folder beside its tree, redirects nothing."""
    ws = world.open()
    with (ws.git_dir / "config").open("a") as file:
        file.write(f'[url "file://{evil}"]\n\tpushInsteadOf = {world.remote.url}\n[filter "x"]\n\tclean = {canary}\n')
    (ws.git_dir / "info/attributes").write_text("* filter=x\n")
    (ws.git_dir / "config.worktree").write_text(f"[core]\n\tfsmonitor = {canary}\n")
    (ws.folder / "README.md").write_text("changed\n")
    assert ws.push(ws.capture(message="m").commit, branch="tamma/1", expected=None) is PushResult.MOVED
    assert "refs/heads/tamma/1" in world.heads()
    assert world.heads(evil) == {}
    assert not (world.tmp / "ran").exists()


def test_parent_environment_does_not_reach_git(
    world: World, canary: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GIT_* variable of the process that runs Tamma has any say."""
    for variable, value in {
        "GIT_DIR": str(evil), "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": str(evil / "index"), "GIT_SSH_COMMAND": str(canary),
        "GIT_EXTERNAL_DIFF": str(canary), "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(canary), "GIT_OBJECT_DIRECTORY": str(evil / "objects"), "GIT_ASKPASS": str(canary),
        "GIT_TRACE": str(world.tmp / "ran"), "GIT_CONFIG_GLOBAL": str(evil / "config"), "GIT_EXEC_PATH": str(world.tmp),
        "GIT_ALLOW_PROTOCOL": "ext", "GIT_TEMPLATE_DIR": str(world.tmp),
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    ws = world.open()
    (ws.folder / "README.md").write_text("changed\n")
    assert ws.push(ws.capture(message="m").commit, branch="tamma/1", expected=None) is PushResult.MOVED
    assert not (world.tmp / "ran").exists()
