"""Bulk text by its hash, and what gates said about base commits."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.pool import Pool
from tamma.core.errors import PermanentError
from tamma.core.ids import BLOB_BYTES_MAX, BlobId, blob_id

_PUT_BLOB: Final = "INSERT INTO blob (id, content) VALUES (%(id)s, %(content)s) ON CONFLICT DO NOTHING"
_GET_BLOB: Final = "SELECT content FROM blob WHERE id = %(id)s"
_PUT_BASELINE: Final = """
WITH outdated AS (
    DELETE FROM baseline WHERE key IN (
        SELECT key FROM baseline WHERE created_at < tamma_now() - interval '90 days' AND key <> %(key)s
        LIMIT 100 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO baseline (key, value) VALUES (%(key)s, %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, created_at = tamma_now()
WHERE baseline.created_at < tamma_now() - interval '1 day'
"""
_GET_BASELINE: Final = """
SELECT value FROM baseline WHERE key = %(key)s AND created_at > coalesce(tamma_now() - %(max_age)s::interval, '-infinity')
"""


class PostgresBlobs:
    """``ports.store.Blobs``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def put(self, content: bytes) -> BlobId:
        """Idempotent. Raises PermanentError above the size limit."""
        if len(content) > BLOB_BYTES_MAX:
            raise PermanentError(
                "a blob is too large", why=f"{len(content)} bytes, {BLOB_BYTES_MAX} are allowed", fix="bound it first"
            )
        name = blob_id(content)
        self._pool.run(_PUT_BLOB, {"id": name, "content": content})
        return name

    def get(self, blob: BlobId) -> bytes | None:
        """None where it is not there (any more)."""
        row = self._pool.one(_GET_BLOB, {"id": rows.text(blob)})
        return None if row is None else bytes(row[0])


class PostgresBaselines:
    """``ports.store.BaselineCache``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def get(self, key: str, *, max_age: timedelta | None = None) -> bytes | None:
        """None where it is not known, or too old."""
        row = self._pool.one(_GET_BASELINE, {"key": rows.text(key), "max_age": max_age})
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Idempotent: the first value stays for a day at least, and at most 90 days unless it is put again."""
        self._pool.run(_PUT_BASELINE, {"key": rows.text(key), "value": value})
