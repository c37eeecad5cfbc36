"""Routes of erasure: having everything of an address removed, and the record of it."""

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from gateway import render
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import PageSize, PageToken, Shape, Time
from posthouse.v1 import privacy_service_pb2 as pb
from services.kit.event_json import time_text


class ErasureRequest(Shape):
    """Whose messages are to go."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"address": "+15550002222", "reason": "request 2026-118"}]}
    )

    address: str = Field(description="Address of the contact, in any form.")
    reason: str | None = Field(None, description="Why, at most 500 characters; kept in the record.")


class Erasure(Shape):
    """The record of an erasure; it outlives what was erased."""

    id: str
    masked_address: str
    reason: str | None
    caller: str | None
    created_at: Time
    ended_at: Time | None = Field(description="When everything was gone; null: it is under way.")
    cancelled_count: int
    message_count: int
    conversation_count: int
    webhook_count: int


class Erasures(Shape):
    """One page, newest first."""

    erasures: list[Erasure]
    next_page_token: str | None


class ErasureRoutes:
    """Everything under /api/v1/erasures."""

    def __init__(self, backends: Backends) -> None:
        self._privacy = backends.privacy

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(f"{API}/erasures", "privacy")
        add = routes.add_api_route
        add("", self.erase_address, methods=["POST"],
            summary="Erase everything of an address", status_code=202,
            responses={**documented(Erasure, "Noted; it is done in the background.", 202),
                       **documented(Erasure, "One of this address is under way already.")})  # fmt: skip
        add("", self.list_erasures, methods=["GET"], summary="List erasures",
            responses=documented(Erasures, "One page, newest first."))  # fmt: skip
        add("/{erasure_id}", self.get_erasure, methods=["GET"], summary="Read an erasure",
            responses=documented(Erasure, "The erasure."))  # fmt: skip
        return routes

    async def erase_address(self, request: Request, body: ErasureRequest) -> Response:
        """Cancel what waits; delete messages, conversations and kept webhooks. Opt-outs stay."""
        response = await call(
            self._privacy.EraseAddress,
            pb.EraseAddressRequest(address=body.address, reason=body.reason or ""),
            request,
        )
        return render.answer(_erasure(response.erasure), 202 if response.created else 200)

    async def list_erasures(
        self, request: Request, *, page_size: PageSize = 0, page_token: PageToken = ""
    ) -> Response:
        """Return one page of the record of who had what erased."""
        response = await call(
            self._privacy.ListErasures,
            pb.ListErasuresRequest(page_size=page_size, page_token=page_token),
            request,
        )
        return render.page("erasures", map(_erasure, response.erasures), response.next_page_token)

    async def get_erasure(self, request: Request, erasure_id: str) -> Response:
        """Return one erasure."""
        response = await call(self._privacy.GetErasure, pb.GetErasureRequest(erasure_id=erasure_id), request)
        return render.answer(_erasure(response.erasure))


def _erasure(item: pb.Erasure) -> render.Json:
    return {
        "id": item.id,
        "masked_address": item.masked_address,
        "reason": item.reason or None,
        "caller": item.caller or None,
        "created_at": time_text(item.create_time),
        "ended_at": render.when(item, "end_time"),
        "cancelled_count": item.cancelled_count,
        "message_count": item.message_count,
        "conversation_count": item.conversation_count,
        "webhook_count": item.webhook_count,
    }
