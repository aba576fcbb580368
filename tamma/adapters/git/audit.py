"""What a path or a link may be (SECURITY C5). Answers are the second half of a sentence, or None where nothing is odd."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_CONTROL: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT_NAMES: Final = re.compile(r"(git|gitmod|gitatt|gitign|mailma|gi7eba|gi7d29|gi250a|ma7b60)~\d+")
_SPECIAL: Final = frozenset({".gitmodules", ".gitattributes", ".gitignore", ".mailmap"})
_MODULE_KEY: Final = re.compile(r"^\s*(?P<key>path|url|update|branch)\s*=\s*\"?(?P<value>.*)$", re.IGNORECASE)
_MODULE_HEAD: Final = re.compile(r"^\s*\[\s*submodule\s+\"(?P<name>.*)\"", re.IGNORECASE)


def show(path: bytes) -> str:
    """A path as a person may read it: nothing in it can move a cursor or turn the writing direction."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_git_dir(name: bytes) -> bool:
    """``.git`` in any case: never read, never delivered."""
    return name.lower() == b".git"


def name_trouble(name: bytes) -> str | None:
    """Why one component of a new path may not be delivered."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "has a name that is not UTF-8"
    if any(unicodedata.category(c) in _CONTROL for c in text):
        return "has a control, invisible or direction character in its name"
    if any(_is_git_trick(part) for part in text.split("\\")):
        return "has a name that some file systems read as git's own"
    return None


def _is_git_trick(text: str) -> bool:
    """HFS+ drops invisible characters, NTFS cuts trailing dots, blanks and streams, and has short names."""
    plain = unicodedata.normalize("NFKC", text).casefold().split(":", 1)[0].rstrip(" .")
    if text == "..":
        return True
    if plain == ".git" or _SHORT_NAMES.fullmatch(plain):
        return True
    return plain in _SPECIAL and text not in _SPECIAL


def link_trouble(path: bytes, target: bytes) -> str | None:
    """Why a new symbolic link may not be delivered.

    ``..`` may only lead, so that no other link can stand between it and the folder it is counted from.
    """
    if path.rsplit(b"/", 1)[-1].decode("utf-8", "replace") in _SPECIAL:
        return "is a link in the place of a file that git reads"
    if name_trouble(target.replace(b"/", b"")) == "has a name that is not UTF-8" or b"\n" in target:
        return "is a link to an unreadable name"
    if target.startswith((b"/", b"\\")) or re.match(rb"[A-Za-z]:", target):
        return "is a link to an absolute path"
    parts = [part for part in target.split(b"/") if part not in {b"", b"."}]
    ups = next((n for n, part in enumerate(parts) if part != b".."), len(parts))
    if ups > path.count(b"/"):
        return "is a link that leaves the repository"
    if b".." in parts[ups:]:
        return "is a link that goes back up in its middle"
    if any(is_git_dir(part) or name_trouble(part) for part in parts[ups:]):
        return "is a link into git's own files"
    return None


def modules_trouble(content: bytes) -> str | None:
    """Why a new ``.gitmodules`` may not be delivered."""
    text = content.decode("utf-8", "replace")
    if "\r" in text.replace("\r\n", "\n") or any(ord(c) < 32 and c not in "\t\n\r" for c in text):
        return "holds control characters"
    for line in text.splitlines():
        if (head := _MODULE_HEAD.match(line)) and ".." in head["name"].split("/"):
            return "names a submodule with .."
        if (entry := _MODULE_KEY.match(line)) and (
            entry["value"].lstrip().startswith(("-", "!")) or "::" in entry["value"] or line.endswith("\r")
        ):
            return f"has a submodule {entry['key'].lower()} that git could take for an option or a command"
    return None


def clashes(added: Iterable[bytes], everything: Iterable[bytes]) -> list[str]:
    """Added paths that a case-folding or normalising file system cannot hold beside another path of the tree."""
    spellings: dict[str, set[bytes]] = {}
    for path in everything:
        for prefix in _prefixes(path):
            spellings.setdefault(_fold(prefix), set()).add(prefix)
    found = []
    for path in added:
        for prefix in _prefixes(path):
            others = sorted(spellings.get(_fold(prefix), set()) - {prefix})
            if others:
                found.append(
                    f"{show(path)} clashes with {show(others[0])} where file names ignore case or accents' form"
                )
                break
    return found


def _prefixes(path: bytes) -> list[bytes]:
    ends = [n for n, byte in enumerate(path) if byte == 0x2F]
    return [path[:end] for end in ends] + [path]


def _fold(path: bytes) -> str:
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFC", path.decode("utf-8", "backslashreplace")).casefold()
    )
