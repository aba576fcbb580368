"""Claims about secrets: which names give them away; what of their values is hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamma.config.keys import walk
from tamma.config.loader import load
from tamma.config.secrecy import SECRET_NAME

SECRET = (
    "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PAT", "OPENAI_API_KEY", "STRIPE_KEY", "MYKEY", "PGPASSWORD", "GPG_PASSPHRASE",
    "NPM_CONFIG__AUTH", "npm_config__authToken", "NPM_AUTH", "AUTH", "BASIC_AUTH", "REDIS_AUTH_1", "AUTH_HEADER",
    "HTTP_AUTHORIZATION", "SSH_PASS", "SSHPASS", "DB_PASS", "PASS", "PASS_1", "DB_PWD", "MYSQL_PWD", "ADMINPWD", "BEARER",
    "BEARER_VALUE", "COOKIE", "SESSION_COOKIE", "COOKIES", "SENTRY_DSN", "DSN", "SLACK_WEBHOOK_URL", "AZURE_CLIENT_SECRET",
)  # fmt: skip
HARMLESS = (
    "PATH", "HOME", "PWD", "OLDPWD", "INIT_CWD", "AUTHOR", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "AUTHORS", "XAUTHORITY",
    "SSL_CERT_AUTHORITY", "SSH_AUTH_SOCK", "AUTH_URL", "PROXY_AUTH_METHOD", "COMPASS", "COMPASS_HOME", "NO_PROXY_BYPASS",
    "PASSTHROUGH", "PASSENGER_ROOT", "COOKIECUTTER_CONFIG", "KEYBOARD", "KEY_ID", "PATTERN", "LANG", "TERM", "USER",
    "PYTHONPATH", "LS_COLORS", "SHELL", "XDG_SESSION_ID", "HOSTNAME", "PIP_INDEX_URL",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_a_name_of_a_secret_is_known(name: str) -> None:
    """Whatever a secret is commonly called, its value is never stored or shown."""
    assert SECRET_NAME.search(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_is_not_taken_for_a_secret(name: str) -> None:
    """A value that stands in every second line would mangle all that is shown."""
    assert not SECRET_NAME.search(name)


def test_no_key_of_the_configuration_is_named_like_a_secret() -> None:
    """What is wrong with a setting can be told with its value."""
    assert not [path for path, _, _ in walk() if SECRET_NAME.search(path[-1])]


def secrets_of(folder: Path, **environ: str) -> set[str]:
    """What would be hidden with these variables."""
    return set(load(environ=environ, cwd=folder).secrets())


def test_each_long_line_of_a_secret_is_hidden(tmp_path: Path) -> None:
    """Output is shown line by line: a key of several lines would pass a redactor that knows only the whole."""
    text = "-----BEGIN KEY-----\nfirst-line-of-it\n  second-line-of-it\nshort\n-----END KEY-----\n"
    assert secrets_of(tmp_path, DEPLOY_KEY=text) == {text, "first-line-of-it", "second-line-of-it"}


def test_ordinary_values_are_no_secrets(tmp_path: Path) -> None:
    """Words that every log holds, and places: hiding them would mangle text and hide nothing."""
    found = secrets_of(
        tmp_path,
        GIT_ASKPASS="/bin/sh",
        PROJECT_PWD=str(tmp_path),
        WEBHOOK_HOST="localhost",
        BYPASS_AUTH="Disabled",
        DATABASE_URL="postgresql://postgres:postgres@localhost/x",
        LONG_TOKEN="/" * 5_000,
        REAL_SECRET="/no/such/path-but-base64==",
    )
    assert found == {"postgresql://postgres:postgres@localhost/x", "/no/such/path-but-base64==", "/" * 5_000}
