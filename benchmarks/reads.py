"""The measurements of reads: calls of ConversationService, one at a time, over a ledger that is full."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import psycopg

from benchmarks.fill import contact, fill, word
from benchmarks.payloads import API_KEY
from benchmarks.results import Latency, Measurement
from benchmarks.stack import BenchStack
from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc

SELECT = "indexed SELECT"

_PAGE = 50
_CALLS_BEFORE = 10
# Some keys are asked for again and again, as people do; what counts is a ledger that is not read whole.
_KEYS = 2000


def fill_ledger(stack: BenchStack, messages: int, conversations: int, *, search: bool = True) -> None:
    """Add so many messages to the ledger, which nobody is to wait for."""
    count = min(conversations, messages)
    fill(stack.state.database_url, messages=messages, conversations=count, search=search)
    stack.disregard()


def measure_select(url: str, seconds: float) -> Measurement:
    """Read 50 messages by their primary key with plain psycopg: what PostgreSQL and its driver take."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        keys = _keys(connection, "SELECT id FROM messages TABLESAMPLE SYSTEM (1) LIMIT %s")
        statement = "SELECT * FROM messages WHERE id >= %s ORDER BY id LIMIT 50"
        chance = random.Random(1)  # noqa: S311 - no secrets
        return _measure(
            SELECT, seconds, lambda: connection.execute(statement, [chance.choice(keys)]).fetchall()
        )


def measure_reads(url: str, port: int, seconds: float) -> Iterator[Measurement]:
    """Call every read for a while."""
    with psycopg.connect(url, autocommit=True) as connection:
        threads = _keys(connection, "SELECT id::text FROM conversations TABLESAMPLE SYSTEM (5) LIMIT %s")
        count = connection.execute("SELECT count(*) FROM conversations").fetchone()
    contacts = int(count[0]) if count else 1
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.ConversationServiceStub(channel)
        for name, make in _calls(stub, threads, contacts):
            yield _measure(name, seconds, make, floor=SELECT)


def _calls(stub: Any, threads: list[str], contacts: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    chance = random.Random(2)  # noqa: S311 - no secrets
    caller = (("x-api-key", API_KEY),)

    def call(method: str, make: Callable[[], Any]) -> Callable[[], Any]:
        rpc = getattr(stub, method)
        return lambda: rpc(make(), timeout=30, metadata=caller)

    def listed(**fields: Any) -> Callable[[], Any]:
        return call("ListConversations", lambda: pb.ListConversationsRequest(page_size=_PAGE, **fields))

    def searched(make: Callable[[], str], **fields: Any) -> Callable[[], Any]:
        return call(
            "SearchMessages", lambda: pb.SearchMessagesRequest(query=make(), page_size=_PAGE, **fields)
        )

    def ranked(low: int, high: int) -> str:
        return word(chance.randrange(low, high))

    first = stub.ListConversations(pb.ListConversationsRequest(page_size=200), metadata=caller, timeout=30)
    deep = first.next_page_token
    for _ in range(20):
        deep = (
            stub.ListConversations(
                pb.ListConversationsRequest(page_size=200, page_token=deep), metadata=caller, timeout=30
            ).next_page_token
            or deep
        )
    yield (
        "get a conversation",
        call("GetConversation", lambda: pb.GetConversationRequest(conversation_id=chance.choice(threads))),
    )
    yield "list conversations", listed()
    yield "list, page 80", listed(page_token=deep)
    yield "list, unread of a tenant", listed(tenant_id="tenant-7", unread_only=True)
    yield (
        "list, by participant",
        call(
            "ListConversations",
            lambda: pb.ListConversationsRequest(
                page_size=_PAGE, participant=contact(chance.randrange(contacts))
            ),
        ),
    )
    yield (
        "page of messages",
        call(
            "ListConversationMessages",
            lambda: pb.ListConversationMessagesRequest(
                conversation_id=chance.choice(threads), page_size=_PAGE
            ),
        ),
    )
    yield "search, a common word", searched(lambda: ranked(0, 20))
    yield "search, a word of the middle", searched(lambda: ranked(100, 1_000))
    yield "search, a rare word", searched(lambda: ranked(5_000, 20_000))
    yield "search, two words", searched(lambda: f"{ranked(0, 50)} {ranked(50, 1_000)}")
    yield "search, two words of the middle", searched(lambda: f"{ranked(100, 1_000)} {ranked(100, 1_000)}")
    yield "search, a phrase", searched(lambda: f'"{ranked(0, 30)} {ranked(0, 30)}"')
    yield "search, a prefix", searched(lambda: f"{ranked(300, 5_000)[:5]}*")
    yield "search, a number", searched(lambda: contact(chance.randrange(contacts)))
    yield "search, within a tenant", searched(lambda: ranked(0, 1_000), tenant_id="tenant-7")
    yield (
        "list, by text",
        call(
            "ListConversations",
            lambda: pb.ListConversationsRequest(page_size=_PAGE, text=ranked(0, 5_000)),
        ),
    )


def _measure(name: str, seconds: float, call: Callable[[], Any], *, floor: str | None = None) -> Measurement:
    for _ in range(_CALLS_BEFORE):
        call()
    times: list[float] = []
    start = time.perf_counter()
    while (begun := time.perf_counter()) < start + seconds:
        call()
        times.append(time.perf_counter() - begun)
    return Measurement(name, len(times) / (time.perf_counter() - start), Latency.of(times), floor)


def _keys(connection: psycopg.Connection[Any], statement: str) -> list[str]:
    return [str(row[0]) for row in connection.execute(statement.encode(), [_KEYS])]
