"""The JSON schema of a benchmark's results.json, drawn from the records themselves.

python -m tests.benchmark_schema    # writes docs/benchmark.schema.json
"""

from __future__ import annotations

import inspect
import json
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from imaging.benchmark.record import RESULTS_VERSION, BenchmarkResult

PATH = Path(__file__).resolve().parent.parent / "docs" / "benchmark.schema.json"
_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}


def schema() -> dict[str, Any]:
    """The schema of the whole record, with a definition for each record inside it."""
    definitions: dict[str, Any] = {}
    root = _record(BenchmarkResult, definitions)
    root["properties"]["schema_version"] = {"const": RESULTS_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sitewise-imaging:benchmark:{RESULTS_VERSION}",
        "title": "Results of one benchmark",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _record(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "additionalProperties": False,
        "required": names,
        "properties": {name: _value(hints[name], definitions) for name in names},
    }


def _value(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = {}  # a record may hold itself
            definitions[name] = _record(kind, definitions)  # type: ignore[arg-type]
        return {"$ref": f"#/$defs/{name}"}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is type(None):
        return {"type": "null"}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(inner[1], definitions)}
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _value(inner[0], definitions)}
    if origin is tuple:
        parts = [_value(part, definitions) for part in inner]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    assert origin in (Union, types.UnionType), kind
    return {"anyOf": [_value(part, definitions) for part in inner]}


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
