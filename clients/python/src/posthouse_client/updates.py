"""What a watch yields, and the place it has got to."""

from dataclasses import dataclass

from posthouse.v1.conversation_service_pb2 import WatchEventsRequest, WatchEventsResponse
from posthouse.v1.event_pb2 import Event
from posthouse_client.errors import PosthouseError
from posthouse_client.retrying import Retries


@dataclass(frozen=True, slots=True)
class Update:
    """One entry of a watch: an event, or a gap, in which events may have been missed.

    `position` resumes a watch after this entry. `gap` says why in a sentence and is empty for events; list
    messages to catch up.
    """

    position: str
    event: Event | None
    gap: str = ""


class Progress:
    """The request of a watch, moved on with every response: a stream is taken up where it broke."""

    def __init__(self, conversation_id: str, participant: str, after: str, attempts: int) -> None:
        self._request = WatchEventsRequest(
            conversation_id=conversation_id, participant=participant, after_event_id=after
        )
        self._retries = Retries(attempts)

    @property
    def request(self) -> WatchEventsRequest:
        """Return the request that continues after what was seen."""
        return self._request

    def take(self, response: WatchEventsResponse) -> Update | None:
        """Note a response; return what it has for the caller, None for a heartbeat."""
        self._retries.reset()
        if response.event_id:
            self._request.after_event_id = response.event_id
        if response.HasField("gap"):
            return Update(response.event_id, None, response.gap.detail)
        if response.HasField("event"):
            return Update(response.event_id, response.event)
        return None

    def pause_after(self, error: PosthouseError) -> float:
        """Return how long to wait before the stream is opened again; raise `error` when it is not to be."""
        return self._retries.pause_after(error)
