"""The quickstart: three issues of a small repository, a scripted agent, an embedded Postgres, and what came of it.

Run it with the Python that Tamma is installed in. It works in ./.tamma-quickstart, anew each time, and changes nothing
else. Standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = Path.cwd() / ".tamma-quickstart"
MARK = WORK / "made-by-the-quickstart"
REPOSITORY = WORK / "forge" / "textkit"
EXPECTED = {"1": "succeeded", "2": "succeeded", "3": "failed"}


def main() -> int:
    """Make, run, show; 0 when everything ended as it should."""
    clear()
    make()
    say(
        "1. Three labelled issues wait in " + shown(REPOSITORY / "issues"),
        "The agent is scripted: right at once for issue 1, right after a repair for issue 2, never right for issue 3.",
        "It runs unsandboxed, as every agent does for now. The first seconds go to a virtual environment for its tests.",
    )
    try:
        code = tamma("orchestrate", "--until-idle")
        if code:
            return code
        say("2. What became of them: `tamma status`")
        tamma("status")
        show_delivered()
        show_handed_back()
        ended = {task["issue"]: task["state"] for task in json.loads(tamma_prints("status", "--json"))["tasks"]}
    finally:
        tamma("db", "stop", quiet=True)
    say_where_to_look()
    say_verdict(ended)
    return int(ended != EXPECTED)


def clear() -> None:
    """Remove what an earlier run made, and nothing that it did not make."""
    if not WORK.exists():
        return
    if not MARK.exists():
        sys.exit(f"{WORK} is there and was not made by the quickstart: move it away")
    if (WORK / "tamma.toml").exists():
        tamma("db", "stop", quiet=True)
    shutil.rmtree(WORK)


def make() -> None:
    """A bare repository with one commit, its issues, and Tamma's configuration."""
    (REPOSITORY / "issues").mkdir(parents=True)
    MARK.touch()
    (WORK / ".gitignore").write_text("*\n")
    for name in ("tamma.toml", "agent.toml"):
        shutil.copyfile(HERE / name, WORK / name)
    for issue in (HERE / "issues").iterdir():
        shutil.copyfile(issue, REPOSITORY / "issues" / issue.name)
    checkout = WORK / "first-commit"
    shutil.copytree(HERE / "repository", checkout, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    git("init", "-q", "-b", "main", at=checkout)
    git("add", "-A", at=checkout)
    git("-c", "user.name=You", "-c", "user.email=you@example.invalid", "commit", "-q", "-m", "textkit 0.3.0", at=checkout)
    git("clone", "-q", "--bare", str(checkout), str(REPOSITORY / "repo.git"), at=WORK)
    shutil.rmtree(checkout)


def show_delivered() -> None:
    """The change of issue 2, as a reviewer sees it, and its diff."""
    change = json.loads(tamma_prints("explain", "textkit#2", "--json"))["change"]
    if not change:
        return
    file = next(f for f in sorted((REPOSITORY / "changes").glob("*.md")) if f"head: {change['branch']}" in f.read_text())
    say(f"3. The change for issue 2, with its evidence: {shown(file)}")
    print(textwrap.indent(file.read_text(), "    "))
    say(f"4. Its branch, {change['branch']}: git diff main...{change['branch']}")
    print(textwrap.indent(git("diff", f"main...{change['branch']}", at=REPOSITORY / "repo.git"), "    "))


def show_handed_back() -> None:
    """What Tamma wrote on the issue that it could not resolve."""
    say("5. Issue 3 went back to a human, with the reason: " + shown(REPOSITORY / "issues" / "3.md"))
    print(textwrap.indent((REPOSITORY / "issues" / "3.md").read_text(), "    "))


def say_where_to_look() -> None:
    """The commands that show more."""
    script = Path(sys.executable).with_name("tamma")
    program = shown(script) if script.exists() else f"{shown(Path(sys.executable))} -m tamma"
    command = f"{program} -c {shown(WORK / 'tamma.toml')}"
    told = {
        "explain 'textkit#2'": "why it ended as it did, attempt by attempt",
        "events": "everything that happened, in order",
        "doctor": "each part checked",
        "db stop": "stops the database, which those commands start again",
    }
    say(
        "Where to look",
        *(f"{command} {name:20} # {what}" for name, what in told.items()),
        f"git --git-dir {shown(REPOSITORY / 'repo.git')} log --oneline --all",
        "README.md tells how to use Tamma on a repository of your own.",
    )


def say_verdict(ended: dict[str, str]) -> None:
    """One last line: whether it went as it should, what was delivered, and where that is."""
    if ended != EXPECTED:
        print(f"the tasks ended as {ended}, not as {EXPECTED}", file=sys.stderr)
        return
    delivered = ", ".join(issue for issue, state in sorted(ended.items()) if state == "succeeded")
    back = ", ".join(issue for issue, state in sorted(ended.items()) if state == "failed")
    print(
        f"All as it should be: issues {delivered} were delivered, their changes are in {shown(REPOSITORY / 'changes')};"
        f" issue {back} went back to a human, with the reason."
    )


def tamma(*argv: str, quiet: bool = False) -> int:
    """Run a command of Tamma in front of the user."""
    out = subprocess.DEVNULL if quiet else None
    sys.stdout.flush()
    return subprocess.run(tamma_argv(*argv), env=environ(), stdout=out, check=False).returncode


def tamma_prints(*argv: str) -> str:
    """What a command of Tamma prints."""
    return subprocess.run(tamma_argv(*argv), env=environ(), stdout=subprocess.PIPE, text=True, check=True).stdout


def tamma_argv(*argv: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "tamma", "--config", str(WORK / "tamma.toml"), *argv]


def environ() -> dict[str, str]:
    """Without what would point Tamma at another database or configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TAMMA_") and name != "DATABASE_URL"}


def git(*argv: str, at: Path) -> str:
    """Run git, whatever the user's configuration says; what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *argv], cwd=at, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def say(title: str, *lines: str) -> None:
    """A heading and what belongs to it."""
    print("\n".join(["", title, "-" * len(title), *lines, ""]), flush=True)


def shown(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
