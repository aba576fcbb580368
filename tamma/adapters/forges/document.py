"""A Markdown file with YAML front matter, read tolerantly and edited so that only what was meant to change does.

Every scalar is read as the text that stands there (``1.10`` stays ``1.10``, ``no`` stays ``no``): nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import yaml

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
NODES_MAX: Final = 100_000
DEPTH_MAX: Final = 16

_BOM: Final = b"\xef\xbb\xbf"
_OPENING: Final = re.compile(rb"(?:[ \t]*\r?\n)*---[ \t]*(?:\r?\n|\Z)")
_CLOSING: Final = re.compile(rb"^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)(?:\r?\n)?", re.MULTILINE)
_NULL: Final = "tag:yaml.org,2002:null"
_TEXT: Final = "tag:yaml.org,2002:str"
_LIST: Final = "tag:yaml.org,2002:seq"
_MAP: Final = "tag:yaml.org,2002:map"
# What YAML reads as a line break or changes on the way: such text is written in double quotes, with escapes.
_NOT_LITERAL: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
# Without libyaml the same, slower.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadDocument(Exception):
    """The file cannot be understood; the message says the line, what is wrong there and what to do."""

    def __init__(self, why: str, *, line: int | None = None) -> None:
        super().__init__(why if line is None else f"line {line}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file in four parts which, put together, are its bytes: opening fence, front matter, closing fence, body."""

    opening: bytes
    head: str
    closing: bytes
    body: bytes
    values: Mapping[str, Value]

    @property
    def raw(self) -> bytes:
        """The file."""
        return b"".join((self.opening, self.head.encode(), self.closing, self.body))

    @property
    def text(self) -> str:
        """The body, without the one empty line after the front matter; bytes that are not UTF-8 show as U+FFFD."""
        return self.body.decode("utf-8", "replace")


def parse(raw: bytes) -> Document:
    """Read a file; without front matter all of it is body. Raises BadDocument."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadDocument("the file is UTF-16; save it as UTF-8", line=1)
    bom = _BOM if raw.startswith(_BOM) else b""
    opened = _OPENING.match(raw, len(bom))
    if opened is None:
        return Document(opening=bom, head="", closing=b"", body=raw[len(bom) :], values={})
    line = raw.count(b"\n", 0, opened.end())
    closed = _CLOSING.search(raw, opened.end())
    if closed is None:
        raise BadDocument("the front matter is never closed; end it with a line `---`", line=max(line, 1))
    try:
        head = raw[opened.end() : closed.start()].decode()
    except UnicodeDecodeError as e:
        bad = line + 1 + raw.count(b"\n", opened.end(), opened.end() + e.start)
        raise BadDocument("the front matter is not UTF-8; save the file as UTF-8", line=bad) from e
    values = _values(head, first_line=line + 1)
    return Document(
        opening=raw[: opened.end()], head=head, closing=closed.group(), body=raw[closed.end() :], values=values
    )


def new(values: Mapping[str, Value], body: str) -> Document:
    """A file of our own making."""
    document = Document(opening=b"---\n", head="", closing=b"---\n\n", body=encoded(body), values={})
    for key, value in values.items():
        document = with_value(document, key, value)
    return document


def with_body(document: Document, body: str) -> Document:
    """The same front matter before another body."""
    return replace(_fenced(document), closing=f"---{_eol(document) * 2}".encode(), body=encoded(body))


def with_value(document: Document, key: str, value: Value) -> Document:
    """One key set; every other key, its order, its formatting and the body stay as they are."""
    return _edited(document, key, lambda _: _node(value))


def with_item(document: Document, key: str, item: Value) -> Document:
    """One item appended to the list under ``key``, which may be missing; the items before keep what they have."""

    def appended(old: yaml.Node | None) -> yaml.Node:
        before = list(old.value) if isinstance(old, yaml.SequenceNode) else []
        return yaml.SequenceNode(_LIST, [*before, _node(item)], flow_style=False)

    return _edited(document, key, appended)


def clean(text: str) -> str:
    """The text as UTF-8 can hold it: a lone surrogate becomes U+FFFD."""
    return encoded(text).decode()


def encoded(text: str) -> bytes:
    """``clean`` as bytes."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _eol(document: Document) -> str:
    return "\r\n" if document.opening.endswith(b"\r\n") else "\n"


def _fenced(document: Document) -> Document:
    if document.closing:
        return document
    return replace(document, opening=document.opening + b"---\n", closing=b"---\n\n")


def _edited(document: Document, key: str, change: Callable[[yaml.Node | None], yaml.Node]) -> Document:
    document = _fenced(document)
    root = _compose(document.head, first_line=1)
    old = None if root is None else next((v for k, v in root.value if k.value == key), None)
    value = change(old)
    expected = {**document.values, key: _plain(value, [NODES_MAX], 0)}
    # Most gentle first; what reads back as something else is not taken. The last one quotes everything.
    for attempt in (_splice, _rewrite, _rewrite_quoted):
        head = attempt(document, root, key, value)
        try:
            is_right = _values(head, first_line=1) == expected
        except BadDocument:
            is_right = False
        if is_right and not _CLOSING.search(head.encode()):
            return replace(document, head=head, values=expected)
    raise BadDocument(f"the front matter cannot be rewritten with a new {key!r}; simplify it by hand")


def _splice(document: Document, root: yaml.MappingNode | None, key: str, value: yaml.Node) -> str:
    head = document.head
    section = _dump(yaml.MappingNode(_MAP, [(_node(key), value)], flow_style=False), _eol(document))
    if root is None:
        return head + section
    starts = [k.start_mark.index for k, _ in root.value]
    index = next((i for i, (k, _) in enumerate(root.value) if k.value == key), None)
    if index is None:
        return head + section
    end = starts[index + 1] if index + 1 < len(starts) else len(head)
    return head[: starts[index]] + section + _trailing_remarks(head[starts[index] : end]) + head[end:]


def _trailing_remarks(section: str) -> str:
    """Empty lines and comments at a section's end are about what follows."""
    lines = section.splitlines(keepends=True)
    keep = len(lines)
    while keep > 1 and (not lines[keep - 1].strip() or lines[keep - 1].startswith("#")):
        keep -= 1
    return "".join(lines[keep:])


def _rewrite(document: Document, root: yaml.MappingNode | None, key: str, value: yaml.Node) -> str:
    pairs = [] if root is None else [(k, value if k.value == key else v) for k, v in root.value]
    if all(k.value != key for k, _ in pairs):
        pairs.append((_node(key), value))
    return _dump(yaml.MappingNode(_MAP, pairs, flow_style=False), _eol(document))


def _rewrite_quoted(document: Document, root: yaml.MappingNode | None, key: str, value: yaml.Node) -> str:
    pairs = [] if root is None else [(_quoted(k), _quoted(value if k.value == key else v)) for k, v in root.value]
    if root is None or all(k.value != key for k, _ in root.value):
        pairs.append((_node(key), _quoted(value)))
    return _dump(yaml.MappingNode(_MAP, pairs, flow_style=False), _eol(document))


def _quoted(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_quoted(v) for v in node.value])
    if isinstance(node, yaml.MappingNode):
        return yaml.MappingNode(node.tag, [(_quoted(k), _quoted(v)) for k, v in node.value])
    return yaml.ScalarNode(node.tag, node.value, style='"' if node.tag == _TEXT else None)


def _dump(node: yaml.Node, eol: str) -> str:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=1_000_000_000, line_break=eol))


def _node(value: Value) -> yaml.Node:
    if value is None:
        return yaml.ScalarNode(_NULL, "null")
    if isinstance(value, str):
        value = clean(value)
        style = '"' if _NOT_LITERAL.search(value) else "|" if "\n" in value else None
        return yaml.ScalarNode(_TEXT, value, style=style)
    if isinstance(value, dict):
        return yaml.MappingNode(_MAP, [(_node(k), _node(v)) for k, v in value.items()], flow_style=False)
    is_short = all(isinstance(v, str) and "\n" not in v for v in value)
    return yaml.SequenceNode(_LIST, [_node(v) for v in value], flow_style=is_short)


# What PyYAML says of `title: fix: the sum`.
_COLON: Final = "mapping values are not allowed in this context"


def _values(head: str, *, first_line: int) -> dict[str, Value]:
    root = _compose(head, first_line=first_line)
    if root is None:
        return {}
    value = _plain(root, [NODES_MAX], 0, first_line=first_line)
    assert isinstance(value, dict), value
    return value


def _compose(head: str, *, first_line: int) -> yaml.MappingNode | None:
    try:
        _refuse_depth(head, first_line=first_line)
        root = yaml.compose(head, Loader=_Loader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = None if mark is None else mark.line + first_line
        cure = "put a value that holds ': ' into quotes" if e.problem == _COLON else "correct the front matter"
        raise BadDocument(f"not valid YAML ({e.problem or e.context}); {cure}", line=line) from e
    except (yaml.YAMLError, RecursionError) as e:
        first = next(iter(str(e).splitlines()), type(e).__name__)
        raise BadDocument(f"not valid YAML ({first}); correct the front matter", line=first_line) from e
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return None
    if not isinstance(root, yaml.MappingNode):
        raise BadDocument("the front matter must be lines of `key: value`", line=root.start_mark.line + first_line)
    return root


def _refuse_depth(head: str, *, first_line: int) -> None:
    """Count levels and values before the composer, which recurses in C and dies of a deep enough document."""
    depth = nodes = 0
    for event in yaml.parse(head, Loader=_Loader):
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if nodes > NODES_MAX or depth > DEPTH_MAX + 1:
            raise BadDocument(
                f"more than {NODES_MAX} values or {DEPTH_MAX} levels; make the front matter smaller",
                line=(event.start_mark.line if event.start_mark else 0) + first_line,
            )


def _plain(node: yaml.Node, budget: list[int], depth: int, *, first_line: int = 1) -> Value:
    """The node's content. The budget counts every visit, so that aliases of aliases cannot multiply without end."""
    line = (0 if node.start_mark is None else node.start_mark.line) + first_line
    budget[0] -= 1
    if budget[0] < 0 or depth > DEPTH_MAX:
        raise BadDocument(
            f"more than {NODES_MAX} values or {DEPTH_MAX} levels; make the front matter smaller", line=line
        )
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, budget, depth + 1, first_line=first_line) for item in node.value]
    assert isinstance(node, yaml.MappingNode), node
    found: dict[str, Value] = {}
    for key, value in _pairs(node):
        name = str(key.value)
        key_line = (0 if key.start_mark is None else key.start_mark.line) + first_line
        if not isinstance(key, yaml.ScalarNode):
            raise BadDocument("a key must be a word", line=key_line)
        if name in found:
            raise BadDocument(f"the key {name!r} stands there twice; keep one", line=key_line)
        found[name] = _plain(value, budget, depth + 1, first_line=first_line)
    return found


def _pairs(node: yaml.MappingNode) -> Sequence[tuple[yaml.Node, yaml.Node]]:
    return list(node.value)
