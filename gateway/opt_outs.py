"""Routes of opt-outs: who is to get no more messages, and how that came about."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway import opt_out_shapes as shapes
from gateway import queries, render
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import FamilyWord, PageSize, PageToken
from posthouse.v1 import consent_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import CONSENT_CHANGE, CONSENT_SOURCE, FAMILY
from services.kit.event_json import time_text


class OptOutRoutes:
    """Everything under /api/v1/opt-outs."""

    def __init__(self, backends: Backends) -> None:
        self._message = backends.message

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(f"{API}/opt-outs", "opt-outs")
        add = routes.add_api_route
        add("", self.list_opt_outs, methods=["GET"], summary="List opt-outs",
            responses=documented(shapes.OptOuts, "One page, newest first."))  # fmt: skip
        add("", self.add_opt_out, methods=["POST"], summary="Record an opt-out", status_code=201,
            responses={**documented(shapes.OptOut, "Recorded.", 201),
                       **documented(shapes.OptOut, "It held before.")})  # fmt: skip
        add("", self.remove_opt_out, methods=["DELETE"], summary="Lift an opt-out",
            responses=documented(shapes.Removed, "There is none (any more)."))  # fmt: skip
        add("/history", self.list_consent_events, methods=["GET"], summary="Read the history of consent",
            responses=documented(shapes.ConsentEvents, "One page, newest first."))  # fmt: skip
        return routes

    async def list_opt_outs(
        self,
        request: Request,
        *,
        sender: shapes.Sender = "",
        recipient: shapes.Recipient = "",
        channel_family: FamilyWord | None = None,
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of the opt-outs that hold; every filter given must match."""
        response = await call(
            self._message.ListOptOuts,
            pb.ListOptOutsRequest(
                page_size=page_size,
                page_token=page_token,
                sender=queries.address(sender),
                recipient=queries.address(recipient),
                channel_family=FAMILY.number(channel_family),
            ),
            request,
        )
        return render.page("opt_outs", map(_opt_out, response.opt_outs), response.next_page_token)

    async def add_opt_out(self, request: Request, body: shapes.OptOutRequest) -> Response:
        """Refuse every further message from the one to the other; 200 when it was refused before."""
        response = await call(
            self._message.AddOptOut,
            pb.AddOptOutRequest(sender=body.sender, recipient=body.recipient, reason=body.reason or ""),
            request,
        )
        return render.answer(_opt_out(response.opt_out), 201 if response.created else 200)

    async def remove_opt_out(
        self,
        request: Request,
        *,
        sender: shapes.Sender,
        recipient: shapes.Recipient,
        reason: Annotated[str, Query(description="Why; kept in the history.")] = "",
    ) -> Response:
        """Let messages from the one to the other pass again; repeating it changes nothing."""
        response = await call(
            self._message.RemoveOptOut,
            pb.RemoveOptOutRequest(
                sender=queries.address(sender), recipient=queries.address(recipient), reason=reason
            ),
            request,
        )
        return render.answer({"removed": response.removed})

    async def list_consent_events(
        self,
        request: Request,
        *,
        sender: shapes.Sender = "",
        recipient: shapes.Recipient = "",
        change: shapes.ChangeWord | None = None,
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of what contacts, providers and callers have said; entries are only ever added."""
        response = await call(
            self._message.ListConsentEvents,
            pb.ListConsentEventsRequest(
                page_size=page_size,
                page_token=page_token,
                sender=queries.address(sender),
                recipient=queries.address(recipient),
                change=CONSENT_CHANGE.number(change),
            ),
            request,
        )
        return render.page("events", map(_event, response.events), response.next_page_token)


def _opt_out(item: consent_pb2.OptOut) -> render.Json:
    return {
        "from": item.sender,
        "to": item.recipient,
        "channel_family": FAMILY.word(item.channel_family),
        "source": CONSENT_SOURCE.word(item.source),
        "keyword": item.keyword or None,
        "reason": item.reason or None,
        "message_id": item.message_id or None,
        "created_at": time_text(item.create_time),
    }


def _event(item: consent_pb2.ConsentEvent) -> render.Json:
    return {
        "id": item.id,
        "from": item.sender,
        "to": item.recipient,
        "channel_family": FAMILY.word(item.channel_family),
        "change": CONSENT_CHANGE.word(item.change),
        "source": CONSENT_SOURCE.word(item.source),
        "keyword": item.keyword or None,
        "reason": item.reason or None,
        "message_id": item.message_id or None,
        "effective": item.effective,
        "said_at": time_text(item.event_time),
        "created_at": time_text(item.create_time),
    }
