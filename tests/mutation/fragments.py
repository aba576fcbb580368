"""Small changes of SQL and of regular expressions, as they stand in the text of a program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

# Where, and what instead; in the text that was given.
Change = tuple[int, int, str]
Changed = Callable[[str], Iterator[Change]]

_REPLACED: Final = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r" <= ", " < "), (r" <= ", " > "),
        (r"(?<!\w) < |(?<=\w) < ", " <= "), (r" < ", " >= "),
        (r" > ", " >= "), (r" > ", " <= "),
        (r" <> ", " = "),
        (r" FOR NO KEY UPDATE|^\"FOR NO KEY UPDATE(?=\")", ""),
        (r" SKIP LOCKED", ""),
        (r"\+ 1\b", "+ 0"), (r"\+ 1\b", "+ 2"), (r"- 1\b", "- 0"),
        (r"(?<=\) )\+(?= %\()|(?<=at )\+(?= %\()", "-"),
        (r"IS NOT NULL", "IS NULL"), (r"IS NULL", "IS NOT NULL"),
        (r"NOT EXISTS", "EXISTS"), (r"(?<!NOT )EXISTS", "NOT EXISTS"),
        (r" OR ", " AND "),
        (r"\bDESC\b", ""), (r"\bgreatest\(", "least("),
        (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
        (r"UNION ALL", "UNION"), (r"LIMIT 1\b", "LIMIT 2"),
        (r"\{IS_CLAIMABLE\}", "state <> 'running'"), (r"\{IS_RUNNING\}", "state <> 'queued'"),
        (r"\{IS_LIVE\}", "state <> 'cancelled'"), (r"NOT IN", "IN"), (r"tamma_now\(\)", "now()"),
    )
]  # fmt: skip
_ENDS: Final = re.compile(r"ORDER BY|RETURNING|LIMIT|GROUP BY|ON CONFLICT|FOR NO KEY|UNION|AND\b|OR\b|THEN|ELSE|\{how")
_CONDITION: Final = re.compile(r"\b(?:WHERE|AND|OR|WHEN)\s+|^f?\"+(?=id = |\{IS_)")
_ASSIGNED: Final = re.compile(
    r"(?:(?<=[\"',] )|(?<=SET )|(?<=\"))(\w+) = (?:\([^()]*\)|CASE .*? END|[^,\"()]|\([^()]*\))+?(?:, |(?=\"|\n| WHERE| FROM|$))"
)


def of_sql(text: str) -> Iterator[Change]:
    """Each comparison, lock, step by one, set of states, condition and assignment."""
    for pattern, instead in _REPLACED:
        for found in pattern.finditer(text):
            yield found.start(), found.end(), instead
    for found in _CONDITION.finditer(text):
        end = _condition_end(text, found.end())
        condition = text[found.end() : end]
        if condition.strip() and condition.strip() not in ("true", "false"):
            yield found.end(), end, "true" if not found.group().startswith("OR") else "false"
    if " = " in text and not text.lstrip('f"').startswith(("id = ", "state = '{TaskState.RUNNING}'")):
        for found in _ASSIGNED.finditer(text):
            if not _CONDITION.search(text[max(0, found.start() - 7) : found.start()]):
                yield found.start(), found.end(), ""


def _condition_end(text: str, start: int) -> int:
    """To the next AND, the closing parenthesis, the clause after it, or the end of the string; spaces before it left."""
    depth, at = 0, start
    while at < len(text):
        if text[at] in "({[":
            depth += 1
        elif text[at] in ")}]":
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and (text[at] == '"' or (text[at - 1].isspace() and _ENDS.match(text, at))):
            break
        at += 1
    return start + len(text[start:at].rstrip())


_CLASS: Final = re.compile(r"\[\^?((?:\\.|[^\]\\])+)\]")
_MEMBER: Final = re.compile(r"\\.|[^\\]-[^\\]|.")


def of_pattern(text: str) -> Iterator[Change]:
    """Each bound, member of a class, choice, look-around and repetition."""
    for found in re.finditer(r"\{(\d+),(\d+)\}", text):
        yield found.start(2), found.end(2), str(int(found[2]) + 1)
        yield found.start(2), found.end(2), str(int(found[2]) - 1)
    for found in re.finditer(r"\{(\d+)\}", text):
        yield found.start(1), found.end(1), str(int(found[1]) - 1)
    for found in _CLASS.finditer(text):
        members = list(_MEMBER.finditer(found[1]))
        for member in members if len(members) > 1 else []:
            yield found.start(1) + member.start(), found.start(1) + member.end(), ""
    for found in re.finditer(r"(?<=[\])])\+", text):
        yield found.start(), found.end(), ""
    for found in re.finditer(r"(?<=\))\?", text):
        yield found.start(), found.end(), ""
    for found in re.finditer(r"\(\?<?[!=][^()]*\)", text):
        yield found.start(), found.end(), ""
    for found in re.finditer(r"(?<=[|\"])[\w .*+?\\]+\||\|[\w .*+?\\]+(?=\")", text):
        yield found.start(), found.end(), ""
