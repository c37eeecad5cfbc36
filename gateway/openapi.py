"""The OpenAPI document and its page, which loads nothing from other hosts."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from gateway import answers
from gateway.descriptions import describe
from gateway.routing import API, problem_documented

DOCUMENT = f"{API}/openapi.json"
_PAGE = f"{API}/docs"
_ASSETS = f"{API}/docs/assets"
_REFERENCE = "#/components/schemas/{model}"
_NAME = re.compile(r"#/components/schemas/(\w+)")
_PROBLEM = problem_documented("A problem (RFC 9457); `errors` names each field at fault.")

_SCHEMES = {
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a JWT."},
}


def install(app: FastAPI, by_hand: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the application its document and its page; `by_hand` has path items FastAPI does not know."""
    app.openapi = lambda: _document(app, by_hand)  # type: ignore[method-assign]
    static = files("fastapi_offline") / "static"
    app.mount(_ASSETS, StaticFiles(directory=str(static)), name="docs-assets")

    async def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=DOCUMENT,
            title="Posthouse API",
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )

    app.add_api_route(_PAGE, page, include_in_schema=False)


def _document(app: FastAPI, by_hand: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        document["paths"] = {**by_hand, **document["paths"]}
        schemas = document["components"]["schemas"]
        _, extra = models_json_schema(
            [(answers.Problem, "serialization"), (answers.Event, "serialization")], ref_template=_REFERENCE
        )
        schemas.update({name: schema for name, schema in extra["$defs"].items() if name not in schemas})
        # Shape errors are 400 problems here, never FastAPI's own 422.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        for item in document["paths"].values():
            for operation in item.values():
                operation["responses"].pop("422", None)
                operation["responses"].setdefault("default", _PROBLEM)
        _allow_more_in_answers(document)
        describe(document)
        document["components"]["securitySchemes"] = _SCHEMES
        # The empty one stands for installations that know no callers.
        document["security"] = [{}, *({name: []} for name in _SCHEMES)]
        app.openapi_schema = document
    return app.openapi_schema


def _allow_more_in_answers(document: dict[str, Any]) -> None:
    """Let answers have further fields, as those of later versions may, to clients of this one."""
    schemas = document["components"]["schemas"]
    taken = _referred([op.get("requestBody") for item in document["paths"].values() for op in item.values()])
    unread = list(taken)
    while unread:
        further = _referred(schemas[unread.pop()]) - taken
        taken |= further
        unread += further
    for name, schema in schemas.items():
        if name not in taken:
            schema.pop("additionalProperties", None)


def _referred(schema: object) -> set[str]:
    return set(_NAME.findall(json.dumps(schema)))
