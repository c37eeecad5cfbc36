"""Routes of subscriptions: endpoints of customers that events are posted to, and the log of it."""

from fastapi import APIRouter, Request, Response
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gateway import render, requests
from gateway import subscription_shapes as shapes
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import PageSize, PageToken
from posthouse.v1 import subscription_pb2
from posthouse.v1 import subscription_service_pb2 as pb
from services.kit.enum_names import EVENT_DELIVERY
from services.kit.errors import InvalidRequestError


class SubscriptionRoutes:
    """Everything under /api/v1/subscriptions."""

    def __init__(self, backends: Backends) -> None:
        self._subscription = backends.subscription

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(f"{API}/subscriptions", "subscriptions")
        add = routes.add_api_route
        one = documented(shapes.Subscription, "The subscription.")
        add("", self.list_subscriptions, methods=["GET"], summary="List subscriptions",
            responses=documented(shapes.Subscriptions, "One page, newest first."))  # fmt: skip
        add("", self.create_subscription, methods=["POST"],
            summary="Have events posted to an endpoint", status_code=201,
            responses=documented(shapes.NewSubscription, "Made, with its secret.", 201))  # fmt: skip
        add("/{subscription_id}", self.get_subscription, methods=["GET"],
            summary="Read one subscription", responses=one)  # fmt: skip
        add("/{subscription_id}", self.update_subscription, methods=["PATCH"],
            summary="Change, enable or disable it",
            responses=one)  # fmt: skip
        add("/{subscription_id}", self.delete_subscription, methods=["DELETE"], summary="Delete it",
            responses=documented(shapes.Deleted, "There is none (any more)."))  # fmt: skip
        add("/{subscription_id}/rotate", self.rotate_subscription_secret, methods=["POST"],
            summary="Give it a new secret",
            responses=documented(shapes.NewSubscription, "The secret is shown this once."))  # fmt: skip
        add("/{subscription_id}/replay", self.replay_events, methods=["POST"], summary="Post events again",
            responses=documented(shapes.ReplayedEvents, "What is posted again."))  # fmt: skip
        add("/{subscription_id}/deliveries", self.list_event_deliveries, methods=["GET"],
            summary="List what was and will be posted",
            responses=documented(shapes.EventDeliveries, "One page, newest event first."))  # fmt: skip
        return routes

    async def list_subscriptions(
        self, request: Request, *, page_size: PageSize = 0, page_token: PageToken = ""
    ) -> Response:
        """Return one page of the subscriptions; their secrets are not among it."""
        response = await call(
            self._subscription.ListSubscriptions,
            pb.ListSubscriptionsRequest(page_size=page_size, page_token=page_token),
            request,
        )
        return render.page(
            "subscriptions", map(_subscription, response.subscriptions), response.next_page_token
        )

    async def create_subscription(self, request: Request, body: shapes.SubscriptionRequest) -> Response:
        """Post every event of the types given to the URL from now on, signed with the secret returned."""
        response = await call(
            self._subscription.CreateSubscription,
            pb.CreateSubscriptionRequest(
                url=body.url, event_types=body.event_types or (), description=body.description or ""
            ),
            request,
        )
        return render.answer({**_subscription(response.subscription), "secret": response.secret}, 201)

    async def get_subscription(self, request: Request, subscription_id: str) -> Response:
        """Return the subscription without its secret."""
        response = await call(
            self._subscription.GetSubscription,
            pb.GetSubscriptionRequest(subscription_id=subscription_id),
            request,
        )
        return render.answer(_subscription(response.subscription))

    async def update_subscription(
        self, request: Request, subscription_id: str, body: shapes.SubscriptionUpdate
    ) -> Response:
        """Change the fields given."""
        given = sorted(body.model_fields_set)
        if not given:
            raise InvalidRequestError.field("body", "must have url, event_types, description or disabled")
        response = await call(
            self._subscription.UpdateSubscription,
            pb.UpdateSubscriptionRequest(
                subscription=subscription_pb2.Subscription(
                    id=subscription_id,
                    url=body.url or "",
                    event_types=body.event_types or (),
                    description=body.description or "",
                    disabled=body.disabled,
                ),
                update_mask=FieldMask(paths=given),
            ),
            request,
        )
        return render.answer(_subscription(response.subscription))

    async def delete_subscription(self, request: Request, subscription_id: str) -> Response:
        """Post nothing more to it; repeating it changes nothing."""
        response = await call(
            self._subscription.DeleteSubscription,
            pb.DeleteSubscriptionRequest(subscription_id=subscription_id),
            request,
        )
        return render.answer({"deleted": response.deleted})

    async def rotate_subscription_secret(
        self, request: Request, subscription_id: str, body: shapes.RotateRequest | None = None
    ) -> Response:
        """Sign with a new secret, and for a while with the present one too."""
        overlap = None
        if body is not None and body.overlap_seconds is not None:
            overlap = Duration(seconds=body.overlap_seconds)
        response = await call(
            self._subscription.RotateSubscriptionSecret,
            pb.RotateSubscriptionSecretRequest(subscription_id=subscription_id, overlap=overlap),
            request,
        )
        return render.answer({**_subscription(response.subscription), "secret": response.secret})

    async def replay_events(
        self, request: Request, subscription_id: str, body: shapes.ReplayEventsRequest
    ) -> Response:
        """Post one event or those of a range again, under the webhook-id they had."""
        response = await call(
            self._subscription.ReplayEvents,
            pb.ReplayEventsRequest(
                subscription_id=subscription_id,
                event_id=body.event_id or "",
                since_time=requests.timestamp(body.since),
                until_time=requests.timestamp(body.until),
                undelivered_only=body.undelivered_only,
            ),
            request,
        )
        return render.answer(
            {"replayed_count": response.replayed_count, "resume_at": render.when(response, "resume_time")}
        )

    async def list_event_deliveries(
        self,
        request: Request,
        subscription_id: str,
        *,
        status: shapes.DeliveryWord | None = None,
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of the log: what was posted, with what result, and what is still to be."""
        response = await call(
            self._subscription.ListEventDeliveries,
            pb.ListEventDeliveriesRequest(
                subscription_id=subscription_id,
                page_size=page_size,
                page_token=page_token,
                state=EVENT_DELIVERY.number(status),
            ),
            request,
        )
        return render.page("deliveries", map(_delivery, response.deliveries), response.next_page_token)


def _subscription(item: subscription_pb2.Subscription) -> render.Json:
    return {
        "id": item.id,
        "url": item.url,
        "event_types": list(item.event_types) or None,
        "description": item.description or None,
        "disabled": item.disabled,
        "disabled_at": render.when(item, "disable_time"),
        "disabled_reason": item.disable_reason or None,
        "failing_since": render.when(item, "fail_time"),
        "created_at": render.when(item, "create_time"),
        "rotated_at": render.when(item, "rotate_time"),
        "overlap_ends_at": render.when(item, "overlap_end_time"),
    }


def _delivery(item: subscription_pb2.EventDelivery) -> render.Json:
    return {
        "id": item.id,
        "event_id": item.event_id,
        "webhook_id": item.webhook_id,
        "event_type": item.event_type,
        "conversation_id": item.conversation_id,
        "event_at": render.when(item, "event_time"),
        "status": EVENT_DELIVERY.word(item.state),
        "attempt_count": item.attempt_count,
        "attempted_at": render.when(item, "attempt_time"),
        "next_attempt_at": render.when(item, "next_attempt_time"),
        "status_code": item.status_code or None,
        "error": item.error or None,
        "duration_ms": item.duration_ms if item.HasField("attempt_time") else None,
        "attempts": [
            {
                "ended_at": render.when(attempt, "end_time"),
                "status_code": attempt.status_code or None,
                "error": attempt.error or None,
                "duration_ms": attempt.duration_ms,
            }
            for attempt in item.attempts
        ],
    }
