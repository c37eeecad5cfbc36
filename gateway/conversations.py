"""Routes of conversations: reading, search, read marks, archive, labels, counts."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from google.protobuf.field_mask_pb2 import FieldMask

from gateway import answers, queries, render, requests, schemas
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import PageSize, PageToken, Time
from posthouse.v1 import conversation_pb2
from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.enum_names import FAMILY
from services.kit.errors import InvalidRequestError

_Since = Annotated[Time | None, Query(description="Only at or after this time (RFC 3339).")]
_Until = Annotated[Time | None, Query(description="Only before this time (RFC 3339).")]


class ConversationRoutes:
    """Everything under /api/v1/conversations."""

    def __init__(self, backends: Backends) -> None:
        self._conversation = backends.conversation

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(f"{API}/conversations", "conversations")
        add = routes.add_api_route
        one = documented(answers.Conversation, "The conversation.")
        add("/search", self.search_messages, methods=["POST"], summary="Search the text of messages",
            responses=documented(answers.SearchHits, "One page, newest first."))  # fmt: skip
        add("/stats", self.get_conversation_stats, methods=["GET"],
            summary="Count messages and delivery rates",
            responses=documented(answers.Stats, "The counts."))  # fmt: skip
        add("", self.list_conversations, methods=["GET"], summary="List conversations, newest activity first",
            responses=documented(answers.Conversations, "One page."))  # fmt: skip
        add("/{conversation_id}", self.get_conversation, methods=["GET"],
            summary="Read one conversation", responses=one)  # fmt: skip
        add("/{conversation_id}", self.update_conversation, methods=["PATCH"],
            summary="Change workflow and labels",
            responses=one)  # fmt: skip
        add("/{conversation_id}/messages", self.list_conversation_messages, methods=["GET"],
            summary="List a conversation's messages, newest first",
            responses=documented(answers.Messages, "One page."))  # fmt: skip
        add("/{conversation_id}/changes", self.list_conversation_changes, methods=["GET"],
            summary="List the changes of a conversation's language and tenant, newest first",
            responses=documented(answers.ConversationChanges, "One page."))  # fmt: skip
        add(
            "/{conversation_id}/read",
            self.mark_conversation_read,
            methods=["POST"],
            summary="Mark as read",
            responses=one,
        )
        add("/{conversation_id}/archive", self.archive_conversation, methods=["POST"],
            summary="Archive", responses=one)  # fmt: skip
        add("/{conversation_id}/unarchive", self.unarchive_conversation, methods=["POST"],
            summary="Bring back",
            responses=one)  # fmt: skip
        return routes

    async def list_conversations(
        self,
        request: Request,
        *,
        participant: Annotated[str, Query(description="Phone number or address, in any form.")] = "",
        channel_family: schemas.FamilyWord | None = None,
        tenant_id: str = "",
        workflow_type: str = "",
        workflow_id: str = "",
        unread_only: bool = False,
        include_archived: bool = False,
        archived_only: bool = False,
        since: _Since = None,
        until: _Until = None,
        text: Annotated[str, Query(description="Only with a message that matches these words.")] = "",
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of conversations; every filter given must match."""
        response = await call(
            self._conversation.ListConversations,
            pb.ListConversationsRequest(
                page_size=page_size,
                page_token=page_token,
                participant=queries.address(participant),
                channel_family=FAMILY.number(channel_family),
                tenant_id=tenant_id,
                workflow_type=workflow_type,
                workflow_id=workflow_id,
                unread_only=unread_only,
                include_archived=include_archived,
                archived_only=archived_only,
                since_time=requests.timestamp(since),
                until_time=requests.timestamp(until),
                text=text,
            ),
            request,
        )
        return render.page(
            "conversations", map(render.conversation, response.conversations), response.next_page_token
        )

    async def get_conversation(self, request: Request, conversation_id: str) -> Response:
        """Return one conversation."""
        response = await call(
            self._conversation.GetConversation,
            pb.GetConversationRequest(conversation_id=conversation_id),
            request,
        )
        return render.answer(render.conversation(response.conversation))

    async def list_conversation_messages(
        self, request: Request, conversation_id: str, page_size: PageSize = 0, page_token: PageToken = ""
    ) -> Response:
        """Return one page of a conversation's messages, in both directions."""
        response = await call(
            self._conversation.ListConversationMessages,
            pb.ListConversationMessagesRequest(
                conversation_id=conversation_id, page_size=page_size, page_token=page_token
            ),
            request,
        )
        return render.page("messages", map(render.message, response.messages), response.next_page_token)

    async def list_conversation_changes(
        self, request: Request, conversation_id: str, page_size: PageSize = 0, page_token: PageToken = ""
    ) -> Response:
        """Return one page of what was learned of the conversation: from what, to what, how sure and why."""
        response = await call(
            self._conversation.ListConversationChanges,
            pb.ListConversationChangesRequest(
                conversation_id=conversation_id, page_size=page_size, page_token=page_token
            ),
            request,
        )
        return render.page(
            "changes", map(render.conversation_change, response.changes), response.next_page_token
        )

    async def search_messages(self, request: Request, body: schemas.SearchRequest) -> Response:
        """Return one page of messages whose text matches, newest first."""
        response = await call(
            self._conversation.SearchMessages,
            pb.SearchMessagesRequest(
                query=body.query,
                page_size=body.page_size,
                page_token=body.page_token or "",
                conversation_id=body.conversation_id or "",
                participant=body.participant or "",
                tenant_id=body.tenant_id or "",
            ),
            request,
        )
        hits = ({"message": render.message(hit.message), "highlight": hit.highlight} for hit in response.hits)
        return render.page("hits", hits, response.next_page_token)

    async def mark_conversation_read(
        self, request: Request, conversation_id: str, body: schemas.ReadRequest | None = None
    ) -> Response:
        """Move the read mark forward; without a body: to the end."""
        response = await call(
            self._conversation.MarkConversationRead,
            pb.MarkConversationReadRequest(
                conversation_id=conversation_id, message_id=(body and body.message_id) or ""
            ),
            request,
        )
        return render.answer(render.conversation(response.conversation))

    async def archive_conversation(self, request: Request, conversation_id: str) -> Response:
        """Archive the conversation; a new inbound message brings it back."""
        response = await call(
            self._conversation.ArchiveConversation,
            pb.ArchiveConversationRequest(conversation_id=conversation_id),
            request,
        )
        return render.answer(render.conversation(response.conversation))

    async def unarchive_conversation(self, request: Request, conversation_id: str) -> Response:
        """Bring an archived conversation back."""
        response = await call(
            self._conversation.UnarchiveConversation,
            pb.UnarchiveConversationRequest(conversation_id=conversation_id),
            request,
        )
        return render.answer(render.conversation(response.conversation))

    async def update_conversation(
        self, request: Request, conversation_id: str, body: schemas.ConversationUpdate
    ) -> Response:
        """Change the fields given; null clears a field."""
        given = sorted(body.model_fields_set)
        if not given:
            raise InvalidRequestError.field("body", "must have workflow_type, workflow_id or metadata")
        response = await call(
            self._conversation.UpdateConversation,
            pb.UpdateConversationRequest(
                conversation=conversation_pb2.Conversation(
                    id=conversation_id,
                    workflow_type=body.workflow_type or "",
                    workflow_id=body.workflow_id or "",
                    metadata=body.metadata or {},
                ),
                update_mask=FieldMask(paths=given),
            ),
            request,
        )
        return render.answer(render.conversation(response.conversation))

    async def get_conversation_stats(
        self, request: Request, conversation_id: str = "", since: _Since = None, until: _Until = None
    ) -> Response:
        """Count over all conversations, or over one."""
        response = await call(
            self._conversation.GetConversationStats,
            pb.GetConversationStatsRequest(
                conversation_id=conversation_id,
                since_time=requests.timestamp(since),
                until_time=requests.timestamp(until),
            ),
            request,
        )
        return render.answer(render.stats(response))
