"""What all routers share: how they read JSON and how they document their answers."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from gateway import problems, queries

API = "/api/v1"

# Paths that providers call; they sign what they send instead of having credentials.
WEBHOOKS = (f"{API}/webhooks/", "/webhook/")

ResponseDocs = dict[int | str, dict[str, Any]]


class _OrjsonRequest(Request):
    async def json(self) -> Any:
        """Return the body; lone surrogates and NaN are no JSON here."""
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


class _JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler for good queries, given a request that reads its body with orjson."""
        handler = super().get_route_handler()
        parameters = frozenset(parameter.alias for parameter in self.dependant.query_params)

        async def handle(request: Request) -> Response:
            problem = queries.refusal(request.scope["query_string"], parameters)
            if problem is not None:
                return problems.response(problem, request.scope)
            return await handler(_OrjsonRequest(request.scope, request.receive))

        return handle


def router(prefix: str, tag: str) -> APIRouter:
    """Return an empty router.

    The name of a route's function is its operation id, which generated clients call it by.
    """
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=_JsonRoute,
        strict_content_type=False,
        generate_unique_id_function=lambda route: route.name,
    )


def documented(shape: type[BaseModel], description: str, status: int = 200) -> ResponseDocs:
    """Return the OpenAPI entry of an answer."""
    return {status: {"model": shape, "description": description}}


def problem_documented(description: str) -> dict[str, Any]:
    """Return what the OpenAPI document says of a problem that is not like all others."""
    return {
        "description": description,
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
