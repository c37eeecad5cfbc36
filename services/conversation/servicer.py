"""ConversationService on the wire: requests become calls of the use cases, their results responses."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from services.conversation import lookup, queries, updates
from services.conversation.changes import list_changes
from services.conversation.fields import read_participant, read_participants
from services.conversation.filters import read_family, read_filter
from services.conversation.search import read_search, search_messages
from services.conversation.statistics import Statistics, read_window
from services.conversation.watching import Watchers
from services.kit.errors import InvalidRequestError, NotFoundError
from services.kit.ids import parse_id
from services.kit.page_tokens import read_token, write_token
from services.kit.paging import encode_token, page_size, read_id
from services.ledger.database import Database

_Context = grpc.aio.ServicerContext[Any, Any]


class ConversationServicer(pb_grpc.ConversationServiceServicer):
    """Reads conversations, and keeps what people note about them."""

    def __init__(self, database: Database, watchers: Watchers, *, phone_region: str = "US") -> None:
        self._database = database
        self._phone_region = phone_region
        self._watchers = watchers
        self._statistics = Statistics(database)

    async def GetConversation(
        self, request: pb.GetConversationRequest, _context: _Context
    ) -> pb.GetConversationResponse:
        """Return one conversation."""
        conversation_id = parse_id("conversation_id", request.conversation_id)
        async with self._database.read() as connection:
            conversation = await queries.get_conversation(connection, conversation_id)
        return pb.GetConversationResponse(conversation=conversation)

    async def LookupConversation(
        self, request: pb.LookupConversationRequest, _context: _Context
    ) -> pb.LookupConversationResponse:
        """Find the conversations of one address or of two."""
        participants = read_participants("participants", request.participants, region=self._phone_region)
        family = read_family("channel_family", request.channel_family)
        async with self._database.read() as connection:
            found = await lookup.find_conversations(connection, participants, channel_family=family)
        return pb.LookupConversationResponse(conversations=found)

    async def ListConversations(
        self, request: pb.ListConversationsRequest, _context: _Context
    ) -> pb.ListConversationsResponse:
        """Return one page of conversations, newest activity first."""
        narrowed = read_filter(request, region=self._phone_region)
        after = read_token(request.page_token, narrowed.key)
        size = page_size(request.page_size)
        async with self._database.read() as connection:
            page, last = await queries.list_conversations(connection, narrowed, after=after, limit=size)
        token = write_token(narrowed.key, last) if last else ""
        return pb.ListConversationsResponse(conversations=page, next_page_token=token)

    async def ListConversationMessages(
        self, request: pb.ListConversationMessagesRequest, _context: _Context
    ) -> pb.ListConversationMessagesResponse:
        """Return one page of the messages of a conversation or of a participant, newest first."""
        if request.participant:
            return await self._list_messages_of(request)
        conversation_id = parse_id("conversation_id", request.conversation_id)
        filter_key = ["messages", conversation_id]
        after = read_token(request.page_token, filter_key)
        size = page_size(request.page_size)
        async with self._database.read() as connection:
            page, last = await queries.list_conversation_messages(
                connection, conversation_id, after=after, limit=size
            )
        token = write_token(filter_key, last) if last else ""
        return pb.ListConversationMessagesResponse(messages=page, next_page_token=token)

    async def _list_messages_of(
        self, request: pb.ListConversationMessagesRequest
    ) -> pb.ListConversationMessagesResponse:
        if request.conversation_id:
            raise InvalidRequestError.field("participant", "must not be given with a conversation_id")
        participant = read_participant("participant", request.participant, region=self._phone_region)
        family = read_family("channel_family", request.channel_family)
        filter_key = ["messages of", participant.canonical, family]
        after = read_token(request.page_token, filter_key)
        async with self._database.read() as connection:
            found = await lookup.find_conversations(connection, [participant], channel_family=family)
            if not found:
                raise NotFoundError("there is no such conversation", reason="CONVERSATION_NOT_FOUND")
            page, last = await queries.list_messages_of_all(
                connection, [item.id for item in found], after=after, limit=page_size(request.page_size)
            )
        token = write_token(filter_key, last) if last else ""
        return pb.ListConversationMessagesResponse(messages=page, next_page_token=token)

    async def ListConversationChanges(
        self, request: pb.ListConversationChangesRequest, _context: _Context
    ) -> pb.ListConversationChangesResponse:
        """Return one page of the changes of a conversation's language and tenant, newest first."""
        conversation_id = parse_id("conversation_id", request.conversation_id)
        filter_key = ["changes", conversation_id]
        after = read_token(request.page_token, filter_key)
        size = page_size(request.page_size)
        async with self._database.read() as connection:
            page, last = await list_changes(connection, conversation_id, after=after, limit=size)
        token = write_token(filter_key, last) if last else ""
        return pb.ListConversationChangesResponse(changes=page, next_page_token=token)

    async def MarkConversationRead(
        self, request: pb.MarkConversationReadRequest, _context: _Context
    ) -> pb.MarkConversationReadResponse:
        """Move the read mark of a conversation forward."""
        conversation_id = parse_id("conversation_id", request.conversation_id)
        message_id = parse_id("message_id", request.message_id) if request.message_id else None
        async with self._database.write() as connection:
            conversation = await updates.mark_read(connection, conversation_id, message_id)
        return pb.MarkConversationReadResponse(conversation=conversation)

    async def ArchiveConversation(
        self, request: pb.ArchiveConversationRequest, _context: _Context
    ) -> pb.ArchiveConversationResponse:
        """Archive a conversation."""
        conversation_id = parse_id("conversation_id", request.conversation_id)
        async with self._database.write() as connection:
            conversation = await updates.archive(connection, conversation_id)
        return pb.ArchiveConversationResponse(conversation=conversation)

    async def UnarchiveConversation(
        self, request: pb.UnarchiveConversationRequest, _context: _Context
    ) -> pb.UnarchiveConversationResponse:
        """Bring an archived conversation back."""
        conversation_id = parse_id("conversation_id", request.conversation_id)
        async with self._database.write() as connection:
            conversation = await updates.unarchive(connection, conversation_id)
        return pb.UnarchiveConversationResponse(conversation=conversation)

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, _context: _Context
    ) -> pb.UpdateConversationResponse:
        """Change what the update mask names."""
        conversation_id = parse_id("conversation.id", request.conversation.id)
        changes = updates.read_changes(request.conversation, request.update_mask.paths)
        async with self._database.write() as connection:
            conversation = await updates.change(connection, conversation_id, changes)
        return pb.UpdateConversationResponse(conversation=conversation)

    async def SearchMessages(
        self, request: pb.SearchMessagesRequest, _context: _Context
    ) -> pb.SearchMessagesResponse:
        """Return one page of messages that match a query, newest first."""
        asked = read_search(request, region=self._phone_region)
        filter_key = ["search", request.query, *asked[1:]]
        before = read_id(request.page_token, filter_key)
        size = page_size(request.page_size)
        async with self._database.read() as connection:
            hits, last = await search_messages(connection, asked, before=before, limit=size)
        token = encode_token(filter_key, [last]) if last else ""
        return pb.SearchMessagesResponse(hits=hits, next_page_token=token)

    async def GetConversationStats(
        self, request: pb.GetConversationStatsRequest, _context: _Context
    ) -> pb.GetConversationStatsResponse:
        """Count messages and response times, of one conversation or of all."""
        return await self._statistics.get(read_window(request))

    def WatchEvents(
        self, request: pb.WatchEventsRequest, _context: _Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Stream events as they happen."""
        return self._watchers.watch(request)
