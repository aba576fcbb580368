"""Claims about files that only look like backups: each is told as no whole backup, and is no bug."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tamma.adapters.postgres.backup import put_back, require_whole, take
from tamma.core.errors import ConfigError
from tests.adapters.postgres.store_world import World
from tests.adapters.postgres.test_backup import damage

Manifest = dict[str, Any]


def with_columns(*columns: str) -> Callable[[Manifest], str]:
    def changed(manifest: Manifest) -> str:
        manifest["tables"]["task"]["columns"] = columns
        return json.dumps(manifest)

    return changed


def with_revision(revision: str | None) -> Callable[[Manifest], str]:
    return lambda manifest: json.dumps({**manifest, "revision": revision})


MANIFESTS: dict[str, Callable[[Manifest], str]] = {
    "deep": lambda _: "[" * 900_000,
    "endless-rows": lambda told: json.dumps(told).replace('"rows": 1', '"rows": 1e999', 1),
    "column-twice": with_columns("id", "id"),
    "column-without-name": with_columns(""),
    "column-nul": with_columns("a\x00b"),
    "column-half-a-character": with_columns("\ud800"),
    **{f"revision-{name}": with_revision(name) for name in ("", None, "base", "head", "+1", "head-1")},
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_was_edited_is_no_backup(
    world: World, empty_database_url: str, tmp_path: Path, change: Callable[[Manifest], str]
) -> None:
    """It is the file that is wrong, neither Tamma nor the database."""
    world.task(1)
    file = tmp_path / "b.tamma"
    take(world.url, file)
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    damage(file, "manifest.json", change(manifest).encode())
    with pytest.raises(ConfigError, match="no whole backup") as told:
        put_back(empty_database_url, file)
    assert "Error" not in told.value.why, "those are Python's words"


def test_a_member_larger_than_was_told_is_not_read_to_its_end(world: World, tmp_path: Path) -> None:
    """A bomb costs no more than the table that was backed up: the bad bytes near its end are never met."""
    world.task(1)
    file = tmp_path / "b.tamma"
    take(world.url, file)
    with zipfile.ZipFile(file) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != "task.copy"}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        archive.writestr("task.copy", b"0123456789" * 3_000_000)
        packed = archive.getinfo("task.copy").compress_size
    raw = bytearray(file.read_bytes())
    at = raw.index(b"task.copy") + packed * 3 // 4
    raw[at : at + 64] = bytes(range(64))
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"task\.copy is not what was written"):
        require_whole(file)


def flip(raw: bytearray, name: bytes) -> None:
    at = raw.index(name) + len(name) + 40
    raw[at : at + 8] = b"\xff" * 8


def in_directory(offset: int, value: int) -> Callable[[bytearray, bytes], None]:
    def change(raw: bytearray, name: bytes) -> None:
        at = raw.rindex(name) - 46  # the central directory's record: compression method at 10, flags at 8
        raw[at + offset] = value

    return change


@pytest.mark.parametrize(
    "change", [flip, in_directory(10, 99), in_directory(8, 1)], ids=["flipped", "method-99", "encrypted"]
)
def test_bytes_that_no_backup_of_ours_has_are_no_bug(
    world: World, empty_database_url: str, tmp_path: Path, change: Callable[[bytearray, bytes], None]
) -> None:
    """Bits that turned, a compression that nobody knows, a member that asks for a password."""
    world.task(1)
    file = tmp_path / "b.tamma"
    take(world.url, file)
    raw = bytearray(file.read_bytes())
    change(raw, b"task.copy")
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match="no whole backup"):
        put_back(empty_database_url, file)
