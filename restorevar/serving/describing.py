"""The API's description for people, made of its OpenAPI description: a page of HTML that loads nothing from elsewhere.

FastAPI's own pages load their scripts from another site: of no use offline, and not allowed by the page's policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ background: #8881; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .4rem }}
table {{ border-collapse: collapse; width: 100% }} td {{ vertical-align: top; padding: .3rem .8rem .3rem 0 }}
tr {{ border-top: 1px solid #8884 }} code, h2 {{ font-family: ui-monospace, monospace }} h2 {{ margin-top: 3rem }}
:root {{ color-scheme: light dark }}
</style></head><body>
"""


def page(spec: Mapping[str, Any]) -> str:
    """The page for an OpenAPI description, as `FastAPI.openapi` gives it."""
    info = spec["info"]
    parts = [_HEAD.format(title=escape(info["title"])), f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"]
    parts.append(f"<pre>{escape(info.get('description', ''))}</pre>")
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{escape(method.upper())} {escape(path)}</h2>")
            parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
            parts.extend(_table("Asked with", _fields(operation, spec)))
            parts.extend(_table("Answered with", _answers(operation)))
    return "\n".join(parts) + "</body></html>"


def _fields(operation: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, kind and description of what is in the path, the query and the form."""
    for parameter in operation.get("parameters", ()):
        kind = _kind(parameter.get("schema", {}), parameter.get("required", False))
        yield parameter["name"], f"{parameter['in']}, {kind}", parameter.get("description", "")
    for body in operation.get("requestBody", {}).get("content", {}).values():
        schema = _resolved(body.get("schema", {}), spec)
        for name, field in schema.get("properties", {}).items():
            yield name, _kind(field, name in schema.get("required", ())), field.get("description", "")


def _kind(schema: Mapping[str, Any], required: bool) -> str:
    """Such as "number, 0 to 1" or "best | balanced"."""
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    kind = choices[0] if choices else {}
    words = " | ".join(map(str, kind["enum"])) if "enum" in kind else str(kind.get("type", "any"))
    if kind.get("contentMediaType") or kind.get("format") == "binary":
        words = "file"
    if words == "array":
        words = "several files" if "contentMediaType" in kind.get("items", {}) else "several"
    if "minimum" in kind or "maximum" in kind:
        words += ", " + " to ".join(f"{kind[end]:g}" if end in kind else "" for end in ("minimum", "maximum"))
    if schema.get("default") is not None:
        words += f"; else {json.dumps(schema['default'])}"
    return words + ("; required" if required else "")


def _answers(operation: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Status, what it means and an example."""
    for status, answer in operation.get("responses", {}).items():
        content = answer.get("content", {})
        example = content.get("application/json", {}).get("example")
        text = answer.get("description", "") + (f" ({', '.join(content)})" if content else "")
        yield status, text, "" if example is None else json.dumps(example, indent=1)


def _resolved(schema: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    for reference in (schema, *schema.get("allOf", ())):
        if "$ref" in reference:
            return spec["components"]["schemas"][reference["$ref"].rsplit("/", 1)[-1]]
    return schema


def _table(title: str, rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    found = list(rows)
    if not found:
        return
    yield f"<p><b>{title}</b></p><table>"
    for first, second, third in found:
        last = f"<pre>{escape(third)}</pre>" if "\n" in third else escape(third)
        yield f"<tr><td><code>{escape(first)}</code></td><td>{escape(second)}</td><td>{last}</td></tr>"
    yield "</table>"
