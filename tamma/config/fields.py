"""What every section is made of: closed, frozen models whose numbers are bounded and whose texts are safe to pass on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from tamma.core.paths import inside

TEXT_CHARS_MAX: Final = 4_096
LIST_MAX: Final = 1_000
DAY_SECONDS: Final = 86_400.0
GIB: Final = 1_073_741_824
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_ALLOWED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(_\*)?")
# Of the scheme only its last character: to look for its beginning from each place of a long text would be quadratic.
_URL_USER: Final = re.compile(
    r"(?P<scheme>[a-z0-9+.-]://)(?P<user>[^/?#\s:@]*):(?P<password>[^/?#\s]*)@", re.IGNORECASE
)


class Section(BaseModel):
    """A table of tamma.toml: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def has_password(url: str) -> bool:
    """Whether a URL carries a password (``libpq``'s ``?password=`` included)."""
    return bool(_URL_USER.search(url)) or bool(re.search(r"[?&](ssl)?password=", url))


def mask_password(text: str) -> str:
    """The text with the password of every URL in it replaced."""
    masked = _URL_USER.sub(lambda m: f"{m['scheme']}{m['user']}:***@", text)
    return re.sub(r"([?&](?:ssl)?password=)[^&\s]*", r"\1***", masked)


def _inert(text: str) -> str:
    if any(ord(char) < 32 and char not in "\n\t" for char in text):
        raise ValueError("it holds a control character")
    return text


def _inert_path(path: Path) -> Path:
    _inert(str(path))
    return path


def _starts_a_program(argv: tuple[str, ...]) -> tuple[str, ...]:
    if argv and not argv[0].strip():
        raise ValueError("its first item, the program, is empty")
    return argv


def _folder_inside(text: str) -> str:
    if inside(text) is None:
        raise ValueError(f"{text!r} leads out of the checkout; it must be relative, without ..")
    return text


def _file_inside(text: str) -> str:
    if not inside(_folder_inside(text)):
        raise ValueError(f"{text!r} is no file in the checkout")
    return text


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an environment variable")
    return name


def _env_pattern(name: str) -> str:
    if not _ENV_ALLOWED.fullmatch(name):
        raise ValueError(f"{name!r} is neither the name of an environment variable nor PREFIX_*")
    return name


# Strict: TOML has types of its own, and `true` must not pass for 1 nor "2" for 2. The loader converts what comes as text.
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Switch = Annotated[bool, Strict()]
Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX), AfterValidator(_inert)]
FolderInside = Annotated[Text, AfterValidator(_folder_inside)]
FileInside = Annotated[Text, AfterValidator(_file_inside)]
Location = Annotated[Path, AfterValidator(_inert_path)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_inert)]
Argv = Annotated[tuple[Text, ...], Field(max_length=LIST_MAX), AfterValidator(_starts_a_program)]
Names = Annotated[tuple[Name, ...], Field(max_length=LIST_MAX)]
Env = Annotated[dict[Annotated[str, AfterValidator(_env_name)], Text], Field(max_length=LIST_MAX)]
EnvPatterns = Annotated[tuple[Annotated[str, AfterValidator(_env_pattern)], ...], Field(max_length=LIST_MAX)]
RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
