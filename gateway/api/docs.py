"""/docs: the OpenAPI description as one plain page. It loads nothing from elsewhere, so it works without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, Response

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: light-dark(#0b62d6, #6cb2ff); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; overflow-wrap: anywhere; }
summary b { display: inline-block; min-width: 3.5rem; color: var(--accent); }
summary span { opacity: .75; }
details > div { padding: 0 .75rem .75rem; overflow-x: auto; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem; border-radius: .4rem; overflow-x: auto; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2rem 1.25rem .2rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
"""
# Nothing on the page runs, and nothing may be added to it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def router(app: FastAPI) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs() -> Response:  # pyright: ignore[reportUnusedFunction]
        return HTMLResponse(page(app.openapi()), headers={"content-security-policy": _POLICY})

    return routes


def page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI document."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{_prose(info['description'])}"
        '<p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>'
        f"{''.join(_section(document, tag) for tag in document['tags'])}</html>"
    )


def _section(document: dict[str, Any], tag: dict[str, str]) -> str:
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation.get("tags", ())
    )
    return f"<h2>{escape(tag['name'])}</h2>{_prose(tag['description'])}{operations}" if operations else ""


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"<span>{escape(operation['summary'])}</span></summary><div>"
        f"{_prose(operation.get('description', ''))}{''.join(_parameters(operation))}{_example(path, operation)}"
        f"{_table('Answer', ((status, answer['description']) for status, answer in operation['responses'].items()))}"
        "</div></details>"
    )


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    rows = [(each["name"], each.get("description", "")) for each in operation.get("parameters", ())]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        for name, field in content["schema"]["properties"].items():
            rows.append((name, field.get("description") or field.get("type") or f"in {kind}"))
    if rows:
        yield _table("Parameter", iter(rows))


def _example(path: str, operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    body = json.dumps(content["example"])
    # the variable of OpenAI's SDK ends in /v1, under which not every path lies
    url = f"$OPENAI_BASE_URL{path[3:]}" if path.startswith("/v1/") else f"${{OPENAI_BASE_URL%/v1}}{path}"
    key = "TOLLGATE_ADMIN_KEY" if path.startswith("/admin/") else "OPENAI_API_KEY"
    command = (
        f'curl {url} \\\n  -H "authorization: Bearer ${key}" -H "content-type: application/json" \\\n  -d \'{body}\''
    )
    return f"<pre>{escape(command)}</pre>"


def _table(head: str, rows: Iterator[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code><td>{_code(meaning)}" for name, meaning in rows)
    return f"<table><tr><th>{head}<th>{cells}</table>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_code(part)}</p>" for part in text.split("\n\n") if part.strip())


def _code(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
