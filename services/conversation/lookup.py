"""Finds conversations by the people in them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_pb2
from services.conversation import queries
from services.kit.enum_names import FAMILY
from services.ledger.addresses import Address
from services.ledger.threading import conversation_id

# Most conversations a lookup answers with.
LOOKUP_LIMIT = 100


async def find_conversations(
    connection: AsyncConnection, participants: Sequence[Address], *, channel_family: str
) -> list[conversation_pb2.Conversation]:
    """Return the conversations of one address or of a pair, newest activity first; none is no error."""
    if len(participants) == 1:
        return await queries.find_by_participant(
            connection, participants[0].canonical, channel_family=channel_family, limit=LOOKUP_LIMIT
        )
    first, second = (address.canonical for address in participants)
    # The id says it all; one per family that the two could have talked in.
    families = [channel_family] if channel_family else FAMILY.words
    ids = [conversation_id(family, first, second) for family in families]
    return await queries.find_by_ids(connection, ids)
