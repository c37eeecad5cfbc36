"""SubscriptionService on the wire: requests become calls of the use cases, their results responses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from posthouse.v1 import subscription_service_pb2 as pb
from posthouse.v1 import subscription_service_pb2_grpc as pb_grpc
from services.conversation import subscription_rows
from services.conversation.subscriptions import SubscriptionKeeper
from services.kit.enum_names import EVENT_DELIVERY
from services.kit.errors import InvalidRequestError
from services.kit.fields import read_time, read_word
from services.kit.ids import parse_id
from services.kit.page_tokens import read_token, write_token
from services.kit.paging import encode_token, page_size, read_id
from services.ledger.database import Database
from services.ledger.event_batches import make_timestamp

_Context = grpc.aio.ServicerContext[Any, Any]

_OVERLAP = timedelta(days=1)


class SubscriptionServicer(pb_grpc.SubscriptionServiceServicer):
    """SubscriptionService over its use cases."""

    def __init__(self, database: Database, keeper: SubscriptionKeeper) -> None:
        self._database = database
        self._keeper = keeper

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, _context: _Context
    ) -> pb.CreateSubscriptionResponse:
        """Make a subscription."""
        made, secret = await self._keeper.create(request.url, request.event_types, request.description)
        return pb.CreateSubscriptionResponse(subscription=made, secret=secret)

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, _context: _Context
    ) -> pb.GetSubscriptionResponse:
        """Return one subscription."""
        subscription_id = parse_id("subscription_id", request.subscription_id)
        async with self._database.read_primary() as connection:
            found = await subscription_rows.get(connection, subscription_id)
        return pb.GetSubscriptionResponse(subscription=found)

    async def ListSubscriptions(
        self, request: pb.ListSubscriptionsRequest, _context: _Context
    ) -> pb.ListSubscriptionsResponse:
        """Return one page of subscriptions, newest first."""
        size = page_size(request.page_size)
        filter_key = ["subscriptions"]
        before = read_id(request.page_token, filter_key)
        async with self._database.read_primary() as connection:
            found = await subscription_rows.list_newest(connection, before=before, limit=size + 1)
        return pb.ListSubscriptionsResponse(
            subscriptions=found[:size],
            next_page_token=encode_token(filter_key, [found[size - 1].id]) if len(found) > size else "",
        )

    async def UpdateSubscription(
        self, request: pb.UpdateSubscriptionRequest, _context: _Context
    ) -> pb.UpdateSubscriptionResponse:
        """Change what the update mask names."""
        changed = await self._keeper.change(request.subscription, request.update_mask.paths)
        return pb.UpdateSubscriptionResponse(subscription=changed)

    async def DeleteSubscription(
        self, request: pb.DeleteSubscriptionRequest, _context: _Context
    ) -> pb.DeleteSubscriptionResponse:
        """Delete a subscription."""
        return pb.DeleteSubscriptionResponse(deleted=await self._keeper.delete(request.subscription_id))

    async def RotateSubscriptionSecret(
        self, request: pb.RotateSubscriptionSecretRequest, _context: _Context
    ) -> pb.RotateSubscriptionSecretResponse:
        """Give a subscription a new secret."""
        try:
            overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else _OVERLAP
        except (ValueError, OverflowError):
            raise InvalidRequestError.field("overlap", "is not a duration") from None
        rotated, secret = await self._keeper.rotate(request.subscription_id, overlap)
        return pb.RotateSubscriptionSecretResponse(subscription=rotated, secret=secret)

    async def ReplayEvents(
        self, request: pb.ReplayEventsRequest, _context: _Context
    ) -> pb.ReplayEventsResponse:
        """Post events again."""
        ranged = request.HasField("since_time")
        if bool(request.event_id) == ranged:
            raise InvalidRequestError.field("event_id", "or a range of time must be given, and not both")
        if request.event_id and (request.HasField("until_time") or request.undelivered_only):
            field = "until_time" if request.HasField("until_time") else "undelivered_only"
            raise InvalidRequestError.field(field, "goes with a range of time, and not with an event_id")
        if not ranged:
            replayed = await self._keeper.replay_one(request.subscription_id, request.event_id)
        else:
            replayed = await self._keeper.replay_range(
                request.subscription_id,
                read_time("since_time", request.since_time),
                read_time("until_time", request.until_time)
                if request.HasField("until_time")
                else datetime.now(UTC) + timedelta(days=1),
                undelivered_only=request.undelivered_only,
            )
        resume = replayed.resume_time
        return pb.ReplayEventsResponse(
            replayed_count=replayed.number, resume_time=None if resume is None else make_timestamp(resume)
        )

    async def ListEventDeliveries(
        self, request: pb.ListEventDeliveriesRequest, _context: _Context
    ) -> pb.ListEventDeliveriesResponse:
        """Return one page of the log of deliveries, newest event first."""
        subscription_id = parse_id("subscription_id", request.subscription_id)
        state = read_word("state", EVENT_DELIVERY, request.state)
        filter_key = ["event_deliveries", subscription_id, state]
        after = read_token(request.page_token, filter_key)
        size = page_size(request.page_size)
        async with self._database.read_primary() as connection:
            page, last = await subscription_rows.list_deliveries(
                connection, subscription_id, state=state, after=after, limit=size
            )
            if not page:
                # The log of one that was deleted can be read as long as it is kept.
                await subscription_rows.check_known(connection, subscription_id)
        token = write_token(filter_key, last) if last else ""
        return pb.ListEventDeliveriesResponse(deliveries=page, next_page_token=token)
