"""Secrets are found in what a patch adds, however they are written, and never named by their value."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.leaks import leaks, message_leaks, without_secrets
from tamma.core.redact import MASK, Redactor
from tests.adapters.git.conftest import IDENTITY, git

VALUE = "s3cret/Va+lue 1"
REDACTOR = Redactor({VALUE: "FORGE_TOKEN"})


def patch_of(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> bytes:
    """What git says that leads from one tree to the other."""
    git("init", "--quiet", ".", cwd=folder)
    for files in (before, after):
        for old in [p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts]:
            old.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        git("add", "-A", cwd=folder)
        git(*IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "x", cwd=folder)
    argv = ["git", "diff-tree", "-p", "--binary", "--full-index", "--no-renames", "-r", "HEAD~", "HEAD"]
    return subprocess.run(argv, cwd=folder, capture_output=True, check=True).stdout


@given(before=st.binary(max_size=5), after=st.binary(max_size=5), secret=st.text("abc+/=é%", min_size=6, max_size=20))
def test_a_secret_is_known_however_it_is_written(before: bytes, after: bytes, secret: str) -> None:
    """Raw, hex, URL-encoded, base64 of both alphabets at any of its three alignments; masked the same way."""
    redactor = Redactor({secret: "THE_TOKEN"})
    inside = before + secret.encode() + after
    for text in (
        secret, inside.hex(), inside.hex().upper(), quote(secret), quote(secret, safe=""), quote(secret, safe="").lower(),
        base64.b64encode(inside).decode(), base64.urlsafe_b64encode(inside).decode(),
    ):  # fmt: skip
        assert redactor.names_in(f"x {text} y".encode()) == ("THE_TOKEN",)
        assert MASK in redactor(text)
        assert MASK.encode() in redactor.mask(text.encode())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", f"one\n++ token = {VALUE}\n".encode()),
        ("wrapped.txt", base64.encodebytes(b"x" * 50 + VALUE.encode() + b"y" * 50)),
        ('ä "odd"\t.txt', VALUE.encode().hex().encode()),
        ("binary.bin", b"\x00\x01" + VALUE.encode() + b"\x00"),
    ],
)
def test_a_file_with_a_secret_is_named_and_the_value_is_not(tmp_path: Path, name: str, content: bytes) -> None:
    """Text or binary, under whatever name; what is not added says nothing."""
    patch = patch_of(tmp_path, {"kept": b"1"}, {"kept": b"1", name: content, "fine": b"fine"})
    [told] = leaks(patch, REDACTOR)
    shown = name.replace("\t", "\\t")
    assert told == f"{shown} would publish the secret FORGE_TOKEN"
    assert VALUE not in told
    assert leaks(patch_of(tmp_path, {name: content}, {"fine": b""}), REDACTOR) == ()


def test_a_secret_inside_a_changed_binary_is_found(tmp_path: Path) -> None:
    """Git writes such a change as a delta."""
    old = bytes(range(256)) * 20
    patch = patch_of(tmp_path, {"b": old}, {"b": old[:3000] + VALUE.encode() + old[3000:]})
    assert b"\ndelta " in patch
    assert leaks(patch, REDACTOR) == ("b would publish the secret FORGE_TOKEN",)
    assert without_secrets(patch, REDACTOR) == b""


def test_a_path_and_a_commit_message_count_too(tmp_path: Path) -> None:
    """A path is shown without the secret in it."""
    redactor = Redactor({"hunter2hunter2": "FORGE_TOKEN"})
    patch = patch_of(tmp_path, {}, {"hunter2hunter2.txt": b"x\n"})
    assert leaks(patch, redactor) == (f"{MASK}.txt would publish the secret FORGE_TOKEN",)
    assert message_leaks("Fix hunter2hunter2", redactor) == ("the commit message would publish the secret FORGE_TOKEN",)


def test_a_kept_patch_still_applies_and_holds_no_secret(tmp_path: Path) -> None:
    """Work is not lost because a token stands in it."""
    patch = patch_of(tmp_path, {"a": b"1\n2\n"}, {"a": f"1\n{VALUE}\n2\n".encode()})
    kept = without_secrets(patch, REDACTOR)
    assert VALUE.encode() not in kept
    git("checkout", "--quiet", "HEAD~", cwd=tmp_path)
    git("apply", "-", cwd=tmp_path, stdin=kept)
    assert (tmp_path / "a").read_text() == f"1\n{MASK}\n2\n"
