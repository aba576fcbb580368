"""The schema's revision that this version of Tamma needs; a test holds it against the migrations."""

from typing import Final

HEAD: Final = "0006"
