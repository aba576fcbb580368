"""An environment is built once, stays where it was built, and survives whatever happens to its builders."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.environments import CachedEnvironments
from tamma.adapters.environments.away import reason_away
from tamma.adapters.environments.cache import last_words
from tamma.ports.environment import Environment, EnvironmentSpec, SetupFailed, SetupUnavailable
from tests.support.machine import PATH, PYTHON, a_sandbox, a_tag, alive, eventually

TAG = f"t{os.getpid()}:1"  # of this process alone: a sweep by another test's tag would end what runs here

BUILDER = """
import sys
from contextlib import contextmanager
from pathlib import Path
from tests.adapters.environments.test_cache import World, spec
world = World(Path(sys.argv[1]))
with world.prepare(spec(sys.argv[2]), tag=sys.argv[3]) as environment:
    print(environment.is_cached, environment.folder, flush=True)
"""


class World:
    """A cache, and a repository whose files are a dict."""

    def __init__(self, root: Path, *, size_bytes_max: int = 1 << 30) -> None:
        self.root = root
        self.files: dict[str, bytes] = {}
        self.cache = CachedEnvironments(root / "cache", a_sandbox(), size_bytes_max=size_bytes_max, search_path=PATH)

    @contextmanager
    def checkout(self) -> Iterator[Path]:
        """A folder with the files."""
        folder = self.root / f"checkout-{threading.get_ident()}-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        yield folder

    @contextmanager
    def prepare(
        self, spec: EnvironmentSpec, *, tag: str = TAG, should_stop: Callable[[], bool] | None = None
    ) -> Iterator[Environment]:
        """Never None."""
        with self.cache.prepare(
            spec, read_input=self.files.get, checkout=self.checkout, tag=tag, should_stop=should_stop
        ) as environment:
            assert environment is not None
            yield environment

    def key(self, spec: EnvironmentSpec) -> str:
        """What it would be stored under."""
        return self.cache.key(spec, read_input=self.files.get, tag=TAG)


def spec(script: str, *, inputs: tuple[str, ...] = (), seconds: float = 60) -> EnvironmentSpec:
    return EnvironmentSpec(setup=(("sh", "-c", script),), inputs=inputs, timeout=timedelta(seconds=seconds))


def builder(root: Path, script: str, tag: str = TAG) -> subprocess.Popen[str]:
    return subprocess.Popen([PYTHON, "-c", BUILDER, str(root), script, tag], stdout=subprocess.PIPE, text=True)


def test_no_setup_is_no_environment(tmp_path: Path) -> None:
    """None, and nothing on disk."""
    world = World(tmp_path)
    with world.cache.prepare(
        EnvironmentSpec(), read_input=world.files.get, checkout=world.checkout, tag="t"
    ) as nothing:
        assert nothing is None
    assert not (tmp_path / "cache").exists()


def test_commands_run_in_order_in_one_checkout(tmp_path: Path) -> None:
    """With ``{environment}`` filled in, and the base commit's files at hand."""
    world = World(tmp_path)
    world.files["lock"] = b"pinned"
    two = EnvironmentSpec(setup=(("sh", "-c", "cat lock > made"), ("cp", "made", "{environment}/out")))
    with world.prepare(two) as environment:
        assert (environment.folder / "out").read_text() == "pinned"
        assert not environment.is_cached
    with world.prepare(two) as again:
        assert (again.folder, again.is_cached) == (environment.folder, True)


def test_a_venv_still_works_after_it_was_put_in_place() -> None:
    """Its scripts hold the path that they are run by; a short root, since a first line has a limit."""
    with tempfile.TemporaryDirectory(prefix="t-") as root:
        _a_venv_works(Path(root))


def _a_venv_works(root: Path) -> None:
    world = World(root)
    script = f"{PYTHON} -m venv {{environment}} && {{environment}}/bin/python -c 'import sys; print(sys.prefix)'"
    with world.prepare(spec(script, seconds=240)) as environment:  # a busy disk takes more than a minute for a venv
        pip = environment.folder / "bin" / "pip"
        assert pip.read_text().splitlines()[0].startswith(f"#!{environment.folder}/bin/python")
        assert (
            str(environment.folder)
            in subprocess.run([pip, "--version"], capture_output=True, text=True, check=True).stdout
        )


def test_the_key_is_definition_inputs_and_toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them makes another environment; nothing else does; missing is not empty."""
    world = World(tmp_path)
    plain = spec("true", inputs=("a",))
    keys = [world.key(plain), world.key(spec("false", inputs=("a",))), world.key(spec("true"))]
    world.files["a"] = b""
    keys.append(world.key(plain))
    world.files["a"] = b"1"
    keys.append(world.key(plain))
    world.files["b"] = b"not an input"
    assert world.key(plain) == keys[-1]
    assert len(set(keys)) == len(keys)
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    other = CachedEnvironments(tmp_path / "cache", a_sandbox(), size_bytes_max=1, search_path=f"{tools}:{PATH}")
    first = other.key(EnvironmentSpec(setup=(("tool",),)), read_input=world.files.get, tag="t")
    tool.write_text("#!/bin/sh\n# a new release\n")
    assert other.key(EnvironmentSpec(setup=(("tool",),)), read_input=world.files.get, tag="t") != first


def test_two_processes_that_need_one_key_build_it_once(tmp_path: Path) -> None:
    """The other waits, and finds it done."""
    script = f"echo built >> {tmp_path}/count; sleep 0.7; echo x > {{environment}}/x"
    both = [builder(tmp_path, script), builder(tmp_path, script)]
    said = [process.communicate(timeout=60)[0].split() for process in both]
    assert sorted(words[0] for words in said) == ["False", "True"]
    assert said[0][1] == said[1][1]
    assert (tmp_path / "count").read_text() == "built\n"


def test_kill_9_of_a_builder_leaves_nothing_that_the_next_does_not_remove(tmp_path: Path) -> None:
    """A half-built environment is never used."""
    tag = a_tag()
    script = f"echo half > {{environment}}/half; echo up > {tmp_path}/up; [ -e {tmp_path}/go ] || sleep 600; rm {{environment}}/half"
    killed = builder(tmp_path, script, tag)
    eventually((tmp_path / "up").exists)
    killed.kill()
    killed.communicate()
    eventually(lambda: not alive(tag))
    (tmp_path / "go").touch()
    world = World(tmp_path)
    with world.prepare(spec(script)) as environment:
        assert not environment.is_cached
        assert list(environment.folder.iterdir()) == []
        folders = [entry for entry in environment.folder.parent.iterdir() if entry.is_dir() and not entry.is_symlink()]
        assert folders == [environment.folder]


def test_a_wait_for_another_builder_ends_on_request(tmp_path: Path) -> None:
    """A stopped attempt does not wait for somebody else's build."""
    script = f"echo up > {tmp_path}/up; sleep 600"
    other = builder(tmp_path, script)
    eventually((tmp_path / "up").exists)
    with (
        pytest.raises(SetupUnavailable, match="stopped"),
        World(tmp_path).prepare(spec(script), should_stop=lambda: True),
    ):
        pass
    other.kill()
    other.communicate()


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        ("echo wrong; exit 3", SetupFailed, "wrong"),
        ("echo 'ERROR: No matching distribution found for x'; exit 1", SetupFailed, "No matching"),
        ("sleep 60", SetupFailed, "took too long"),
        ("echo 'npm ERR! code ENOTFOUND'; exit 1", SetupUnavailable, "ENOTFOUND"),
        ("exit 75", SetupUnavailable, "75"),
    ],
)
def test_a_failed_setup_says_whose_turn_it_is(tmp_path: Path, script: str, error: type[Exception], text: str) -> None:
    """The repository's, or nobody's: something was away. It leaves nothing, and the next try is a fresh one."""
    world = World(tmp_path)
    with pytest.raises(error) as caught, world.prepare(spec(script, seconds=2)):
        pass
    assert text in str(caught.value)
    assert world.cache.sizes() == []
    with pytest.raises(error), world.prepare(spec(script, seconds=2)):
        pass


def test_a_failed_setup_names_its_command_and_begins_with_its_last_line(tmp_path: Path) -> None:
    """Not with what an earlier one said that went well; a one-line reason is cut at its end."""
    well = ("sh", "-c", "echo all is well")
    bad = (
        "sh",
        "-c",
        "echo Collecting; echo 'Error: gcc is missing'; echo; echo '[notice] A new release of pip'; exit 3",
    )
    with pytest.raises(SetupFailed) as caught, World(tmp_path).prepare(EnvironmentSpec(setup=(well, bad))):
        pass
    assert str(caught.value) == (
        f"the set-up command {shlex.join(bad)[:59]}… ended with 3: Error: gcc is missing (before that: Collecting)"
    )


def test_a_failed_setup_names_the_command_as_it_is_configured(tmp_path: Path) -> None:
    """Not with a folder that is gone by the time it is read."""
    argv = ("test", "-e", "{environment}/x")
    with pytest.raises(SetupFailed) as caught, World(tmp_path).prepare(EnvironmentSpec(setup=(argv,))):
        pass
    assert str(caught.value) == "the set-up command test -e '{environment}/x' ended with 1: it printed nothing"


@pytest.mark.parametrize("secret", ["s" * 100, "s-" * 50, "s" * 300])
def test_the_last_words_are_bounded(secret: str) -> None:
    """Few lines, each cut between words: half a secret would get past who masks whole ones."""
    told = last_words("\n".join(["word " * 20 + secret] * 1_000))
    assert len(told) < 2_000
    assert "word" in told
    assert "s" not in told


def test_a_line_of_nothing_but_colours_is_not_the_last_word() -> None:
    """Tools set the terminal back at their end."""
    assert last_words("building\n\x1b[31mno gcc\x1b[0m\n\x1b[0m\n") == "no gcc (before that: building)"


def test_a_missing_program_is_a_failed_setup(tmp_path: Path) -> None:
    """Named."""
    with pytest.raises(SetupFailed, match="no-such"), World(tmp_path).prepare(EnvironmentSpec(setup=(("no-such",),))):
        pass


def test_the_least_recently_used_goes_first_and_never_what_is_held(tmp_path: Path) -> None:
    """Above the cap, only what nobody uses is removed, read-only folders included."""
    world = World(tmp_path, size_bytes_max=2_500_000)
    make = "head -c 1000000 /dev/zero > {environment}/f; mkdir {environment}/d; touch {environment}/d/x; chmod 500 {environment}/d"
    with ExitStack() as held:
        one = held.enter_context(world.prepare(spec(make + "; : 1")))
        with world.prepare(spec(make + "; : 2")) as two:
            pass
        with world.prepare(spec(make + "; : 3")) as three:
            assert one.folder.exists()
            assert not two.folder.exists()
    assert [key for key, _ in world.cache.sizes()] == [one.key, three.key]
    with world.prepare(spec(make + "; : 4")):
        assert not one.folder.exists()


class Overtaken(CachedEnvironments):
    """Another process empties the cache right after this one has looked what is in it."""

    other: CachedEnvironments | None = None

    def sizes(self) -> Sequence[tuple[str, int]]:
        """As they were."""
        found = super().sizes()
        if self.other is not None:
            self.other._evict()
        return found


def test_two_processes_may_evict_at_once(tmp_path: Path) -> None:
    """What the other one removed meanwhile is gone, which is all that was wanted."""
    world = World(tmp_path)
    for n in range(3):
        with world.prepare(spec(f"head -c 1000000 /dev/zero > {{environment}}/f; : {n}")) as last:
            pass
    world.cache = Overtaken(tmp_path / "cache", a_sandbox(), size_bytes_max=1, search_path=PATH)
    world.cache.other = CachedEnvironments(tmp_path / "cache", a_sandbox(), size_bytes_max=1, search_path=PATH)
    with world.prepare(spec("head -c 1000000 /dev/zero > {environment}/f; : 2")) as again:
        assert (again.is_cached, again.folder) == (True, last.folder)
    assert [key for key, _ in world.cache.sizes()] == [last.key]


AWAY: Mapping[str, bool] = {
    "Temporary failure in name resolution": True,
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError('": True,
    "curl: (22) The requested URL returned error: 503": True,
    "dial tcp 10.0.0.1:443: i/o timeout": True,
    "npm ERR! code E502": True,
    "HTTP error 404 while getting": False,
    "error: subprocess-exited-with-error": False,
    "SyntaxError: invalid syntax": False,
    "npm ERR! code ERESOLVE": False,
    "collected 503 items": False,
}


@pytest.mark.parametrize(("line", "is_away"), AWAY.items())
def test_what_counts_as_away(line: str, is_away: bool) -> None:
    """Only the network and its servers."""
    assert (reason_away("pip", exit_code=1, output=f"before\n{line}\nafter") is not None) is is_away
