"""Whether a set-up command failed since something was away, by what it said. When in doubt: no, so that a human looks."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

TEMPFAIL: Final = 75
_CURL_AWAY: Final = frozenset({5, 6, 7, 18, 28, 35, 52, 56})
# pip ends a failed connection with "No matching distribution", so only the lines before that tell the two apart.
_AWAY: Final = re.compile(
    r"""
    Temporary\ failure\ in\ name\ resolution | Name\ or\ service\ not\ known | Could\ not\ resolve\ (host|proxy)
    | nodename\ nor\ servname\ provided | getaddrinfo\ (ENOTFOUND|EAI_AGAIN) | failed\ to\ lookup\ address
    | \b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT)\b
    | Connection\ (refused|reset|timed\ out|aborted) | Network\ is\ unreachable | No\ route\ to\ host
    | \b(NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ConnectionError|ProxyError|RemoteDisconnected)\b
    | Max\ retries\ exceeded | Read\ timed\ out | i/o\ timeout | TLS\ handshake\ timeout | operation\ timed\ out
    | error\ sending\ request\ for\ url | Could\ not\ fetch | Failed\ to\ fetch | Unable\ to\ connect\ to
    | dial\ tcp | spurious\ network\ error | net::ERR_ | \bE(429|50[0-4])\b
    | (HTTP\ (error|status)?|status(\ code)?|returned\ error|response):?\ *(429|5\d\d)\b
    | \b(429|50[0-4])\ (Too\ Many|Internal|Server\ Error|Bad\ Gateway|Service|Gateway)
    | No\ space\ left\ on\ device | Disk\ quota\ exceeded | ENOSPC
    """,
    re.VERBOSE | re.IGNORECASE,
)


def reason_away(program: str, *, exit_code: int, output: str) -> str | None:
    """The line that says so, or None when the command itself said no."""
    if exit_code == TEMPFAIL:
        return f"{program} ended with {TEMPFAIL}, which means: try again later"
    if PurePath(program).name == "curl" and exit_code in _CURL_AWAY:
        return f"curl ended with {exit_code}"
    for line in output.splitlines():
        if _AWAY.search(line[:2_000]):
            return line.strip()[:500]
    return None
