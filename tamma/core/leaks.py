"""Secrets in what a change would publish: searched in a patch, as git writes it, so that no file need be read again."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tamma.core.redact import Redactor

_HEAD: Final = b"diff --git "
_ESCAPE: Final = re.compile(rb'\\([abfnrtv"\\]|[0-7]{3})')
_ESCAPED: Final = dict(zip(b'abfnrtv"\\', b'\a\b\f\n\r\t\v"\\', strict=True))


@dataclass(slots=True)
class _File:
    """What a patch adds to one path: lines of text, or what a binary patch holds."""

    path: bytes
    lines: list[bytes] = field(default_factory=list)
    binary: bytes = b""

    def names(self, redactor: Redactor) -> set[str]:
        text = b"\n".join(self.lines)
        wrapped = b"".join(line.strip() for line in self.lines)  # base64 is broken into lines of 76 characters
        return {name for part in (self.path, text, wrapped, self.binary) for name in redactor.names_in(part)}


def leaks(patch: bytes, redactor: Redactor) -> tuple[str, ...]:
    """A sentence for each file whose name or added content holds a secret: the file and the secret's name, not its value."""
    found = []
    for file in _files(patch):
        shown = _shown(redactor(file.path.decode("utf-8", "backslashreplace")))
        found += [f"{shown} would publish the secret {name}" for name in sorted(file.names(redactor))]
    return tuple(found)


def message_leaks(message: str, redactor: Redactor) -> tuple[str, ...]:
    """The same for a commit message."""
    return tuple(f"the commit message would publish the secret {name}" for name in redactor.names_in(message.encode()))


def without_secrets(patch: bytes, redactor: Redactor) -> bytes:
    """The patch to keep: secrets masked, wherever they stand; nothing of it where one cannot be masked."""
    masked = redactor.mask(patch)
    return masked if not leaks(masked, redactor) else b""


def _files(patch: bytes) -> Iterator[_File]:
    file: _File | None = None
    is_inside = is_binary = False
    blob: list[bytes] = []
    for line in (*patch.split(b"\n"), _HEAD):
        if line.startswith(_HEAD):
            if file is not None:
                file.binary += _inflated(blob)
                yield file
            file, is_inside, is_binary, blob = _File(_path(line[len(_HEAD) :])), False, False, []
        elif line.startswith((b"literal ", b"delta ")) and not is_inside and file is not None:
            file.binary += _inflated(blob)
            # The second part of a binary patch leads back to the old content, which is published already.
            is_binary, blob = not blob and not file.binary, []
        elif is_binary:
            blob.append(line)
        elif line.startswith(b"@@ "):
            is_inside = True
        elif is_inside and line.startswith(b"+") and file is not None:
            file.lines.append(line[1:])


def _path(names: bytes) -> bytes:
    """Of ``a/PATH b/PATH``, both quoted as in C where need be; without renames they are the same."""
    if names.startswith(b'"'):
        return _ESCAPE.sub(_unescaped, names[3 : len(names) // 2 - 1])
    return names[2 : len(names) // 2]


def _shown(path: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found.group(1)
    return bytes([int(code, 8) & 0xFF if len(code) == 3 else _ESCAPED[code[0]]])


def _inflated(lines: list[bytes]) -> bytes:
    """What a literal or delta of a binary patch holds; of a delta that is also what it adds, as it stands."""
    packed = b"".join(_decoded(line) for line in lines)
    try:
        return zlib.decompress(packed) if packed else b""
    except zlib.error:
        return b""


def _decoded(line: bytes) -> bytes:
    """A line begins with its length, A-Z for 1 to 26 and a-z for 27 to 52."""
    length = line[0] - (64 if line[:1].isupper() else 70) if line else 0
    try:
        return base64.b85decode(line[1:])[:length]
    except ValueError:
        return b""
