"""Claims about what `tamma init` proposes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tamma.core.proposals import READ, propose


def test_a_python_project_gets_pytest_with_a_report() -> None:
    """In a virtual environment with its test extra and the package itself."""
    toml = (
        "[project]\nname='x'\n[project.optional-dependencies]\ntest=['hypothesis']\n[dependency-groups]\ndev=['mypy']\n"
    )
    found = propose(["pyproject.toml", "src"], {"pyproject.toml": toml})
    assert found.gates[0].argv == ("{environment}/bin/python", "-m", "pytest", "-q", "--junitxml={report}")
    assert found.gates[0].env == {"PYTHONPATH": "src:."}
    assert found.setup[0] == ("python3", "-m", "venv", "{environment}")
    assert found.setup[-1][-2:] == ("-e", ".[test]")
    assert any("--group" in command for command in found.setup)
    assert found.inputs == ("pyproject.toml",)


def test_requirements_are_installed_and_a_mere_tool_table_is_no_package() -> None:
    """What cannot be installed is not."""
    found = propose(
        ["requirements.txt", "pyproject.toml"], {"pyproject.toml": "[tool.ruff]\n", "requirements.txt": "x"}
    )
    assert found.setup[-1][-3:] == ("pytest", "-r", "requirements.txt")
    assert found.inputs == ("pyproject.toml", "requirements.txt")


def test_node_test_gets_its_junit_reporter() -> None:
    """A plain node --test can report; without dependencies nothing is set up."""
    found = propose(["package.json"], {"package.json": json.dumps({"scripts": {"test": "node --test test/"}})})
    assert found.gates[0].argv == (
        "node",
        "--test",
        "--test-reporter=junit",
        "--test-reporter-destination={report}",
        "test/",
    )
    assert found.setup == ()


def test_other_test_scripts_run_as_they_are() -> None:
    """Their dependencies are installed in the environment and linked in; that tests are not seen singly is said."""
    package = {"scripts": {"test": "jest --ci && echo ok"}, "devDependencies": {"jest": "^29"}}
    found = propose(["package.json", "package-lock.json"], {"package.json": json.dumps(package)})
    assert found.gates[0].argv[-1].endswith("exec npm test --silent")
    assert found.setup[-1] == ("npm", "--prefix", "{environment}", "ci", "--no-audit", "--no-fund")
    assert "red-green" in found.notes[0]


def test_make_is_the_last_resort() -> None:
    """Only where no better gate was found."""
    assert propose(["Makefile"], {"Makefile": "test: all\n\tx\n"}).gates[0].argv == ("make", "test")
    assert len(propose(["Makefile", "setup.py"], {"Makefile": "test:\n"}).gates) == 1
    assert propose(["Makefile"], {"Makefile": "test := 1\n"}).gates == ()


def test_nothing_recognised_is_said() -> None:
    """An empty proposal tells what to do."""
    found = propose(["README.md"], {})
    assert found.gates == ()
    assert "[[gates]]" in found.notes[0]


def test_two_ecosystems_get_two_names() -> None:
    """Gate names are unique."""
    package = json.dumps({"scripts": {"test": "node --test"}})
    names = [gate.name for gate in propose(["setup.py", "package.json"], {"package.json": package}).gates]
    assert names == ["tests", "tests-2"]


@given(
    st.dictionaries(
        st.sampled_from(READ),
        st.text(max_size=60) | st.sampled_from(["[]", "{}", '{"scripts": 3}', "[project]\n", "tool=1"]),
    )
)
def test_no_content_breaks_it(contents: dict[str, str]) -> None:
    """Files may hold anything."""
    found = propose(list(contents), contents)
    assert found.gates or found.notes


def test_a_file_nested_too_deep_is_no_file_of_settings() -> None:
    """It is as one that cannot be read: the repository's other files still speak."""
    deep = "x = " + "[" * 50_000
    assert propose(["pyproject.toml"], {"pyproject.toml": deep}).gates
    assert not propose(["package.json"], {"package.json": "[" * 50_000}).gates


def test_a_linter_is_told_and_not_proposed() -> None:
    """Of package.json and of a Makefile."""
    package = json.dumps({"scripts": {"test": "node --test", "lint": "eslint ."}})
    found = propose(["package.json", "Makefile"], {"package.json": package, "Makefile": "lint:\n\truff check\n"})
    assert len(found.gates) == 1
    assert {note.split(":")[0] for note in found.notes} >= {
        "package.json has a lint script", "the Makefile has a target lint"
    }  # fmt: skip
