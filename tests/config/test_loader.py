"""Claims about reading the configuration: precedence, origins, and errors that say everything at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tamma.config.keys import plain, walk
from tamma.config.loader import Loaded, load
from tamma.config.reference import Row, describe, reference
from tamma.config.sources import variable_name
from tamma.core.errors import ConfigError


def loaded(
    folder: Path, text: str = "", environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Loaded:
    """What is in force with this file, these variables and these flags."""
    (folder / "tamma.toml").write_text(text, encoding="utf-8")
    return load(None, flags, environ=environ or {}, cwd=folder)


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("[limits]\nworkres = 3", {}, "limits.workres is not a known key; did you mean limits.workers?"),
        ("workers = 3", {}, "did you mean limits.workers?"),
        ("[agent]\nTypo = 3", {}, "agent.Typo is not a known key (from "),
        ("[limts]\nworkers = 3", {}, "did you mean limits?"),
        ("[repositories.demo]\ngti = 'x'", {}, "did you mean repositories.demo.git?"),
        ("", {"TAMMA_LIMTS__WORKERS": "3"}, "did you mean limits? (from TAMMA_LIMTS__WORKERS)"),
        ("", {"TAMMA_LIMITS__WORKRES": "3"}, "did you mean limits.workers? (from TAMMA_LIMITS__WORKRES)"),
        (
            "",
            {"TAMMA_LIMITS_WORKERS": "3"},
            "limits_workers is not a known key; did you mean limits.workers? (from TAMMA_LIMITS_WORKERS)",
        ),
        ("[limits]\nworkers = 65", {}, "limits.workers is 65, out of range: at least 0, at most 64"),
        ("[limits]\nworkers = '2'", {}, "limits.workers is '2', but must be a whole number"),
        ("[limits]\nworkers = true", {}, "limits.workers is True, but must be a whole number"),
        ("[limits]\ntick_seconds = nan", {}, "but must be a finite number"),
        ("[change]\ndraft = 1", {}, "change.draft is 1, but must be true or false"),
        ("", {"TAMMA_LIMITS__WORKERS": "many"}, "'many', but must be a whole number (from TAMMA_LIMITS__WORKERS)"),
        ("", {"TAMMA_AGENT__ARGV": "ls -l"}, "but must be a list (from TAMMA_AGENT__ARGV)"),
        ("[agent]\nkind = 'robot'", {}, "not one of 'command' or 'scripted'"),
        ("[agent]\nargv = ['']", {}, "the program, is empty"),
        ("[agent]\nenv_allow = ['A B']", {}, "neither the name of an environment variable nor PREFIX_*"),
        ("[[gates]]\nname = 'a'", {}, "gates[0].argv is missing"),
        ("[[gates]]\nname='a'\nargv=['x']\n[[gates]]\nname='a'\nargv=['y']", {}, "more than one gate named a"),
        (
            "[[gates]]\nname='a'\nargv=['x']\ncwd='../..'",
            {},
            "gates[0].cwd is refused: '../..' leads out of the checkout",
        ),
        ("[[gates]]\nname='a'\nargv=['x']\ncwd='/etc'", {}, "'/etc' leads out of the checkout"),
        (
            "[[gates]]\nname='a'\nargv=['x']\nreport='/etc/passwd'",
            {},
            "gates[0].report is refused: '/etc/passwd' leads",
        ),
        ("[[gates]]\nname='a'\nargv=['x']\nreport='x/../r'", {}, "'x/../r' leads out of the checkout"),
        ("[[gates]]\nname='a'\nargv=['x']\nreport='.'", {}, "'.' is no file in the checkout"),
        (
            "[[gates]]\nname='Red-Green'\nargv=['x']",
            {},
            "gates[0].name is refused: 'Red-Green' is the name of a gate of",
        ),
        ("[[gates]]\nname='diff-budget'\nargv=['x']", {}, "'diff-budget' is the name of a gate of"),
        (
            "[repositories.a]\ngates=[{name='protected-paths', argv=['x']}]",
            {},
            "'protected-paths' is the name of a gate of",
        ),
        ("[lease]\nbeat_seconds = 30", {}, "beat_seconds must be less than half of duration_seconds"),
        ("[retry]\nbackoff_base_seconds = 1000", {}, "backoff_base_seconds is more than backoff_max_seconds"),
        ("[database]\nurl = 'postgresql://h/x'\nurl_file = 'f'", {}, "keep one"),
        ("", {"DATABASE_URL": "mysql://h/x"}, "does not start with postgresql://"),
        ("[state]\nfolder = ''", {}, "which is the folder of the configuration"),
        ("[state]\nfolder = '..'", {}, "which holds the folder of the configuration"),
        ("[state]\nfolder = 'forge'", {}, "which is forge.root"),
        ("[state]\nfolder = 'all'\n[forge]\nroot = 'all/forge'", {}, "which holds forge.root"),
        ("[repositories.'../x']\n", {}, "repositories"),
    ],
)
def test_each_mistake_is_told_with_its_key_and_source(
    tmp_path: Path, text: str, environ: dict[str, str], said: str
) -> None:
    """A wrong key or value is named in full, with what stands there, what could, and who gave it."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text, environ)
    assert said in error.value.why
    assert error.value.fix


@pytest.mark.parametrize("url", ["host=h password=hunter22", "hunter22", "mysql://u:p@hunter22@h/x"])
def test_a_refused_database_url_is_not_shown(tmp_path: Path, url: str) -> None:
    """What is no URL of ours may hold a password in any place."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "", {"DATABASE_URL": url})
    assert "hunter22" not in f"{error.value} {error.value.fix}"
    assert "(from DATABASE_URL)" in error.value.why


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    """Three mistakes are three lines of one error."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "[limits]\nworkers = -1\nworkres = 1\n[agent]\nargv = 1\n")
    assert error.value.what == "the configuration has 3 problems"
    assert len(error.value.why.splitlines()) == 3


@pytest.mark.parametrize(("raw", "said"), [(b"a = = 1", "line 1"), (b"\n\na = '\xff'", "line 3"), (b"[a\n", "line 1")])
def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path, raw: bytes, said: str) -> None:
    """Neither bad TOML nor bad UTF-8 is a traceback."""
    (tmp_path / "tamma.toml").write_bytes(raw)
    with pytest.raises(ConfigError) as error:
        load(None, environ={}, cwd=tmp_path)
    assert said in error.value.why


@pytest.mark.parametrize("environ", [{}, {"TAMMA_CONFIG": "nowhere.toml"}])
def test_a_named_file_must_be_there(tmp_path: Path, environ: dict[str, str]) -> None:
    """A missing file is only fine if nobody named one."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(None if environ else Path("nowhere.toml"), environ=environ, cwd=tmp_path)


@pytest.mark.timeout(20)
def test_a_fifo_in_place_of_the_file_holds_nobody(tmp_path: Path) -> None:
    """Found or named, it is refused at once: reading it would wait for a writer for ever."""
    os.mkfifo(tmp_path / "tamma.toml")
    for named in (None, tmp_path / "tamma.toml"):
        with pytest.raises(ConfigError):
            load(named, None, environ={}, cwd=tmp_path)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    """Each value comes from the highest source that has it, and its origin says which."""
    text = "[limits]\nworkers = 3\nrunning_max = 3\ncandidates_max = 3\n"
    environ = {"TAMMA_LIMITS__WORKERS": "4", "TAMMA_LIMITS__RUNNING_MAX": "4"}
    found = loaded(tmp_path, text, environ, {"limits.workers": 5, "limits.tick_seconds": None})
    limits = found.config.limits
    assert (limits.workers, limits.running_max, limits.candidates_max) == (5, 4, 3)
    assert found.origin("limits.workers") == "flag for limits.workers"
    assert found.origin("limits.running_max") == "TAMMA_LIMITS__RUNNING_MAX"
    assert found.origin("limits.candidates_max") == str(tmp_path / "tamma.toml")
    assert found.origin("limits.tick_seconds") == "default"


@pytest.mark.parametrize("row", reference(), ids=lambda row: row.key)
def test_every_key_can_come_from_the_environment(tmp_path: Path, row: Row) -> None:
    """Whatever the reference lists, the named variable reaches: a value nobody may have is refused by that name."""
    variable = row.variable.removesuffix(" (JSON)").replace("NAME", "demo")
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "", {variable: "\x01"})
    assert variable in error.value.why


def test_defaults_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    """Each default, written into its variable, is read back as itself."""
    environ = {}
    for path, info, key in walk():
        value = info.default
        if len(path) == 2 and value is not None and not path[0].endswith("[]"):
            simple = plain(key.type) in (str, int, float) or isinstance(value, str | Path)
            environ[variable_name(path)] = str(value) if simple else json.dumps(value)
    found = loaded(tmp_path, "", environ)
    assert found.config == load(None, environ={}, cwd=tmp_path).config
    assert set(found.origins.values()) <= set(environ)


def test_names_of_other_contracts_do_not_configure(tmp_path: Path) -> None:
    """What agents and gates are told by variables does not break a Tamma inside a task; empty variables are unset ones."""
    names = {
        "TAMMA_PROMPT_FILE": "x",
        "TAMMA_ENVIRONMENT": "/x",
        "TAMMA_REPORT": "x",
        "TAMMA_BOX": "x",
        "TAMMA_LOG__LEVEL": "",
    }
    assert not loaded(tmp_path, "", names).origins


def test_case_of_names_in_tables_is_kept(tmp_path: Path) -> None:
    """A variable may set one entry of agent.env or one repository's key."""
    environ = {"TAMMA_AGENT__ENV__My__Name": "1", "TAMMA_REPOSITORIES__Demo__BASE_BRANCH": "main"}
    config = loaded(tmp_path, "", environ).config
    assert config.agent.env == {"My__Name": "1"}
    assert config.repositories["Demo"].base_branch == "main"


def test_secrets_are_refused_in_the_file_and_never_shown(tmp_path: Path) -> None:
    """A password in tamma.toml is refused; one from the environment is masked in every display."""
    secret = "hunter2-and-more"
    url = f"postgresql://me:{secret}@db/x"
    with pytest.raises(ConfigError) as error:
        loaded(
            tmp_path,
            f"[database]\nurl = '{url}'\n[agent]\nenv = {{ A_KEY = 1 }}\n[repositories.a]\ngit = 'https://u:{secret}@h/r'\n",
        )
    assert "DATABASE_URL" in error.value.why
    assert "repositories.a.git" in error.value.why
    assert secret not in error.value.why
    found = loaded(tmp_path, "", {"DATABASE_URL": url, "MODEL_API_KEY": "key-of-the-model"})
    assert found.database_url == url
    assert {secret, "key-of-the-model", url} <= set(found.secrets())
    assert secret not in str(describe(found)) + repr(found.origins)


def test_address_may_lie_in_a_file(tmp_path: Path) -> None:
    """database.url_file is relative to the configuration; a variable wins over it."""
    (tmp_path / "address").write_text("postgresql://me:secret-word@db/x\n")
    text = "[database]\nurl_file = 'address'\n"
    assert loaded(tmp_path, text).database_url == "postgresql://me:secret-word@db/x"
    assert loaded(tmp_path, text, {"DATABASE_URL": "postgresql://db/y"}).database_url == "postgresql://db/y"
    (tmp_path / "address").write_text("secret-word")
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    assert "secret-word" not in str(error.value)


def test_file_is_searched_up_to_the_root_of_the_checkout(tmp_path: Path) -> None:
    """Inside a checkout the nearest file upwards counts, and none above its root."""
    inner = tmp_path / "checkout" / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "tamma.toml").write_text("")
    (tmp_path / "checkout" / "tamma.toml").write_text("")
    (tmp_path / "checkout" / ".git").mkdir()
    assert load(None, environ={}, cwd=inner).path == tmp_path / "checkout" / "tamma.toml"
    (tmp_path / "checkout" / "tamma.toml").unlink()
    assert load(None, environ={}, cwd=inner).path is None


def test_outside_of_a_checkout_only_a_file_that_is_ours_is_found_above(tmp_path: Path) -> None:
    """Not one that anybody may have put there, as in /tmp; nor by what runs in a state folder, which is the code of changes."""
    (tmp_path / "tamma.toml").write_text("")
    (inner := tmp_path / "forge" / "demo").mkdir(parents=True)
    (state := tmp_path / ".tamma" / "checkout").mkdir(parents=True)
    assert load(None, environ={}, cwd=inner).path == tmp_path / "tamma.toml"
    assert load(None, environ={}, cwd=state).path is None
    for everybodys in (inner.parent, tmp_path):
        everybodys.chmod(0o1777)
        assert load(None, environ={}, cwd=inner).path is None
        everybodys.chmod(0o755)


def test_fail_points_are_pairs(tmp_path: Path) -> None:
    """TAMMA_FAILPOINTS holds NAME=ACTION pairs, and nothing else."""
    assert loaded(tmp_path, "", {"TAMMA_FAILPOINTS": "a.b=kill, c=exit@3"}).fail_points == {
        "a.b": "kill",
        "c": "exit@3",
    }
    with pytest.raises(ConfigError):
        loaded(tmp_path, "", {"TAMMA_FAILPOINTS": "a.b"})


@pytest.mark.timeout(20)
def test_a_fifo_in_place_of_the_address_holds_nobody(tmp_path: Path) -> None:
    """Every command reads it first."""
    os.mkfifo(tmp_path / "address")
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "[database]\nurl_file = 'address'\n")
    assert (error.value.what, error.value.why) == (f"{tmp_path / 'address'} cannot be read", "it is not a regular file")


def test_the_cache_of_environments_is_one_for_all(tmp_path: Path) -> None:
    """A size for one repository was read and not heeded."""
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, "[repositories.a]\ngit = 'x'\n[repositories.a.environment]\ncache_bytes_max = 1\n")
    assert "set it in [environment]" in error.value.why
    assert loaded(tmp_path, "[environment]\ncache_bytes_max = 1\n").config.environment.cache_bytes_max == 1
