"""Writes a commented tamma.toml, made from the schema so that it cannot rot: every key, its meaning, and its default or an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tamma.config.keys import ROOT, Shape, fields_of, key_of
from tamma.config.problems import bounds_of
from tamma.config.reference import type_name
from tamma.config.toml import key as toml_key
from tamma.config.toml import to_toml
from tamma.config.work import GateSettings

if TYPE_CHECKING:
    from tamma.core.proposals import Proposal

_HEAD: Final = """\
# Configuration of Tamma. Every key is here with its default, or with an example where it says so; take the # off to set one.
# Each can also come from the environment, as TAMMA_SECTION__KEY. Secrets never stand here: DATABASE_URL may hold the
# database's password, and agent.env_allow names the variables that reach the agent. `tamma doctor --settings` shows what is in force.
"""


def render_template(proposal: Proposal) -> str:
    """A tamma.toml with the gates and the environment that were proposed for a repository."""
    gates = [
        _without_defaults(GateSettings(
            name=gate.name, argv=gate.argv, env=dict(gate.env), cwd=gate.cwd, timeout_seconds=gate.timeout.total_seconds(),
            report=gate.report, required=gate.is_required,
        ))
        for gate in proposal.gates
    ]  # fmt: skip
    environment = {"setup": proposal.setup, "inputs": proposal.inputs} if proposal.setup else {}
    return render({"environment": environment, "gates": gates})


def render(values: Mapping[str, Any]) -> str:
    """A tamma.toml that sets exactly these values (as the file's own tables), and comments out everything else."""
    parts = [_HEAD]
    for name, info in fields_of(ROOT).items():
        key = key_of(info)
        given = values.get(name)
        assert key.model is not None, name
        match key.shape:
            case Shape.TABLE:
                parts.append("\n".join([f"[{name}]", *_comment(key.model.__doc__), *_keys(key.model, given or {})]))
            case Shape.TABLES_BY_NAME:
                parts.extend(_repositories(name, key.model, given or {}))
            case _:
                parts.extend(_gates(name, key.model, given or ()))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _keys(model: type[BaseModel], given: Mapping[str, Any], *, comments: bool = True) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if key_of(info).shape is not Shape.VALUE:
            continue
        if comments:
            yield f"# {_meaning(info)}"
        if given.get(name) is not None:
            yield f"{name} = {to_toml(given[name])}"
        elif comments:
            yield f"# {name} = {_default_or_example(info)}"


def _gates(name: str, model: type[BaseModel], given: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The gates given, bare; before them one that shows every key."""
    yield "\n".join([*_comment(model.__doc__), f"# [[{name}]]", *_keys(model, {})])
    for gate in given:
        yield "\n".join([f"[[{name}]]", *_keys(model, gate, comments=False)])


def _repositories(name: str, model: type[BaseModel], given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "\n".join([*_comment(model.__doc__), f"# [{name}.demo]", *_keys(model, {})])
    for entry, table in given.items():
        path = f"{name}.{toml_key(entry)}"
        yield "\n".join([f"[{path}]", *_keys(model, table, comments=False)])
        for part, inner in table.items():
            if isinstance(inner, Mapping):
                yield "\n".join(
                    [
                        f"[{path}.{part}]",
                        *(f"{key} = {to_toml(value)}" for key, value in inner.items() if value is not None),
                    ]
                )
            elif key_of(model.model_fields[part]).shape is Shape.LIST_OF_TABLES and inner is not None:
                yield from _listed(f"{path}.{part}", inner)


def _listed(path: str, tables: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for table in tables:
        yield "\n".join(
            [f"[[{path}]]", *(f"{key} = {to_toml(value)}" for key, value in table.items() if value is not None)]
        )


def _meaning(info: FieldInfo) -> str:
    facts = "; ".join(filter(None, (type_name(info.annotation), bounds_of(info))))
    return f"{info.description} ({facts})"


def _default_or_example(info: FieldInfo) -> str:
    """The default; where that says nothing (none, or empty), an example that says that it is one."""
    has_default = not info.is_required() and info.default not in (None, (), {})
    if has_default or not info.examples:
        return to_toml(info.default)
    default = "must be set" if info.is_required() else "default: none"
    return f"{to_toml(info.examples[0])}  # {default}; an example"


def _comment(text: str | None) -> list[str]:
    return [f"# {line.strip()}" for line in (text or "").strip().splitlines()]


def _without_defaults(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(exclude_defaults=True)
