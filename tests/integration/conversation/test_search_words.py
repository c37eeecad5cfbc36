"""What words of a query find, through a real server."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from posthouse.v1 import conversation_service_pb2 as pb

from .conftest import Find, Seed

pytestmark = pytest.mark.integration


async def test_words_of_bodies_and_subjects_without_case_and_accents(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    first = await seed.message(thread, body="La reunión es MAÑANA, señor Núñez.")
    second = await seed.message(thread, body="see attached", subject="Reunion notes", channel="email")
    decomposed = await seed.message(thread, body="Une re\u0301union brève à Łódź, Straße 5")
    assert await find("reunion") == [decomposed, second, first]
    assert await find("RÉUNION mañana") == [first]
    assert await find("manana nunez") == [first]
    assert await find("lodz strasse") == [decomposed]
    assert await find("nothing") == []


async def test_words_with_vowel_signs_are_whole(stub: Any, seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    hindi = await seed.message(thread, body="आपकी बुकिंग हो गई है, धन्यवाद!")
    thai = await seed.message(thread, body="ขอบคุณ ครับ")
    assert await find("बुकिंग") == await find("बुकि*") == await find('"आपकी बुकिंग"') == [hindi]
    assert await find("धन्यवाद -ครับ") == [hindi]
    assert await find("बुक") == await find("ขอบค") == []
    assert await find("ครับ") == [thai]
    page = await stub.SearchMessages(pb.SearchMessagesRequest(query="बुकिंग"))
    assert "आपकी «बुकिंग» हो" in page.hits[0].highlight


async def test_phrase_prefix_and_exclusion(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    first = await seed.message(thread, body="The quick brown fox of room 101-a")
    second = await seed.message(thread, body="A brown, quick hare")
    assert await find('"quick brown"') == [first]
    assert await find("quick brown") == [second, first]
    assert await find("bro*") == [second, first]
    assert await find("bro") == []
    assert await find('"quick bro*"') == []
    assert await find("quick -hare") == [first]
    assert await find('brown -"quick brown"') == [second]
    assert await find("101-a") == [first]
    assert await find("brown -qui*") == []


@pytest.mark.parametrize(
    "query",
    [
        "+15559876543",
        "(555) 987-6543",
        "555 987 6543",
        "+1 555-987-6543",
        "15559876543",
        "1555987*",
        "acme",
        "Acme GmbH",
    ],
)
async def test_addresses_and_tenants(seed: Seed, find: Find, query: str) -> None:
    ours = await seed.message(await seed.conversation(tenant_id="Acme-GmbH"))
    mail = await seed.conversation("ann.lee@example.com", "desk@example.org", "email")
    other = await seed.message(
        mail, sender="ann.lee@example.com", recipient="desk@example.org", channel="email", body="call 987"
    )
    assert await find(query) == [ours]
    assert await find("ann.lee@example.com") == [other]
    assert await find("ann") == [other]
    assert await find("example.org") == [other]


async def test_a_number_in_a_body(seed: Seed, find: Find) -> None:
    thread = await seed.conversation("+15550001111")
    body = {"sender": "+15550001111", "body": "Call me at (555) 987-6543 please"}
    assert await find("555-987-6543") == []
    message = await seed.message(thread, **body)
    assert await find("555-987-6543") == [message]


async def test_endings_count_as_the_language_has_them(seed: Seed, find: Find) -> None:
    english = await seed.conversation(language="en")
    unknown = await seed.conversation("+15550001111")
    first = await seed.message(english, body="We were running late with the bookings")
    second = await seed.message(unknown, body="running late")
    spanish = await seed.conversation("+15550002222", language="es")
    third = await seed.message(spanish, body="Las habitaciones están cerradas")
    assert await find("booking") == [first]
    assert await find("runs") == [first]
    assert await find("running") == [second, first]
    assert await find('"runs late"') == []
    assert await find("habitación") == [third]
    # What is excluded is excluded in every form.
    assert await find("late -run") == [second]
    assert await find("late -running") == []


async def test_html_is_searched_where_it_is_all_there_is(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    html = "<style>p {color: red}</style><p>Welcome&nbsp;home</p>"
    message = await seed.message(thread, body="", html=html)
    assert await find('"welcome home"') == [message]
    assert await find("color") == []


@pytest.mark.parametrize("query", ["", "  ", "?!", "-hello", '""', "x" * 501, "a " * 33, "a\x00b"])
async def test_queries_that_say_nothing(stub: Any, refusal: Callable[[Any], Any], query: str) -> None:
    error = await refusal(stub.SearchMessages(pb.SearchMessagesRequest(query=query)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.violations] == ["query"]


@pytest.mark.parametrize(
    "query", ["a'b", "a & | ! <->", "a:*", "a\\", '"a', "a)b(", "((a", "%s", "a -- b", "a''; DROP"]
)
async def test_no_query_is_taken_for_syntax(seed: Seed, find: Find, query: str) -> None:
    message = await seed.message(await seed.conversation(), body='a b s drop \'\\ "quoted"')
    assert await find(query) == [message]


async def test_highlights(stub: Any, seed: Seed, find: Find) -> None:
    thread = await seed.conversation(language="en")
    long = "filler " * 60 + "The Café bookings were Closed, closed for good." + " more" * 60
    await seed.message(thread, body=long)
    await find("cafe")

    async def highlight(query: str) -> str:
        response = await stub.SearchMessages(pb.SearchMessagesRequest(query=query))
        return str(response.hits[0].highlight)

    found = await highlight("cafe booking -nothing")
    assert "The «Café» «bookings» were Closed" in found
    assert found.startswith("… filler")
    assert found.endswith(" …")
    assert "«Closed», «closed» for" in await highlight("clos*")
    assert (await highlight("5559876543")).startswith("filler filler")
