"""Which variables hold a secret, told by their names, and which of their values are worth hiding."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

# AUTH, PASS and PWD are common beginnings and endings of harmless words (AUTHOR, COMPASS, BYPASS, PWD itself).
SECRET_NAME: Final = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|BEARER|WEBHOOK|AUTHORI[SZ]ATION"
    r"|(API|PRIVATE|ACCESS|SIGNING)_?KEY|KEY$|_PAT$"
    r"|AUTH(?![A-Z])(?!_(URL|URI|TYPE|METHOD|MODE|HOST|PORT|USER|NAME|SOCK|FILE|ENABLED|PROVIDER)(_|$))"
    r"|(?<!COM)(?<!BY)PASS(?![A-Z])|(?<!^)(?<!^OLD)PWD(?![A-Z])|COOKIES?(?![A-Z])|DSN(?![A-Z])",
    re.IGNORECASE,
)
_LINE_CHARS_MIN: Final = 12
# Hidden, these would mangle every text that has such a word, and hide nothing that is not known anyhow.
_ORDINARY: Final = frozenset(
    {"always", "default", "disabled", "enabled", "keyring", "localhost", "optional", "password", "postgres", "required"}
)


def secret_texts(value: str) -> Iterator[str]:
    """What to hide of a secret value: itself, and each long line of it, since lines are shown one by one.

    Nothing of an ordinary word, or of the path of something that is there (SSH_ASKPASS, a file of credentials).
    """
    is_place = value.startswith("/") and os.path.exists(value)  # noqa: PTH110 — Path.exists raises for a long text
    if value.casefold() in _ORDINARY or is_place:
        return
    yield value
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= _LINE_CHARS_MIN and not line.startswith("-----"))
