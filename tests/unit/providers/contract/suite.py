"""The cases of the contract. A provider's test class inherits them and offers the fixture `adapter`."""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from services.ledger.states import REPORTABLE
from services.providers.base import (
    Absent,
    Accepted,
    CannotTell,
    Found,
    MalformedWebhookError,
    Outcome,
    Rejected,
    Retryable,
    Unknown,
    WebhookContent,
    WebhookRequest,
)
from tests.unit.providers.contract.adapter import Behaviour, ProviderAdapter
from tests.unit.providers.contract.patience import standing_clock

OUTCOMES: Final[Mapping[Behaviour, type[Outcome]]] = {
    Behaviour.ACCEPT: Accepted,
    Behaviour.RATE_LIMIT: Retryable,
    Behaviour.SERVER_ERROR: Unknown,
    Behaviour.REJECT: Rejected,
    Behaviour.HANG: Unknown,
    Behaviour.RESET: Unknown,
    Behaviour.REFUSE_CONNECTION: Retryable,
    Behaviour.GARBAGE: Unknown,
    Behaviour.SLOW_BODY: Unknown,
}

# Seconds within which everything here has happened, whatever the fake does; silences count in full.
PATIENCE: Final = 240.0

STRANGE: Final = (
    WebhookRequest("POST", "", {}, b""),
    WebhookRequest("GET", "http://[", {"content-type": "application/json"}, b"{"),
    WebhookRequest("POST", "https://hooks.example.com/?a=%ff", {"content-type": "\udcff"}, b"\xff\0" * 50),
    WebhookRequest("POST", "https://hooks.example.com/#?\udcff", {}, b"a=b&a=b&&=%&%zz=%ff"),
    WebhookRequest("POST", "/", {"content-type": "application/json"}, b'[[{"a": 1e999}]]'),
    WebhookRequest("POST", "/", {"content-type": "multipart/form-data; boundary="}, b"--\r\n--"),
)


class ProviderContract:
    """What dispatch and the webhooks rely on, case by case."""

    async def test_it_introduces_itself(self, adapter: ProviderAdapter) -> None:
        provider = adapter.provider
        assert provider.name
        assert provider.name == provider.name.lower()
        assert adapter.channel in provider.channels
        assert provider.batch_size >= 1
        assert provider.send_timeout > 0
        assert provider.inquiry_delay > 0

    @pytest.mark.parametrize("behaviour", list(Behaviour))
    async def test_an_answer_has_its_outcome(self, adapter: ProviderAdapter, behaviour: Behaviour) -> None:
        expected = adapter.differing.get(behaviour, OUTCOMES[behaviour])
        if expected is None:
            pytest.skip("cannot happen on this wire")
        await adapter.play(behaviour)
        async with asyncio.timeout(PATIENCE):
            outcomes = await adapter.provider.send([adapter.message(1)])
        assert [type(outcome) for outcome in outcomes] == [expected]
        _check_text(outcomes[0], adapter)
        if isinstance(outcomes[0], Retryable) and behaviour is Behaviour.RATE_LIMIT:
            assert outcomes[0].retry_after == adapter.retry_after
        # No provider may repeat a request by itself.
        assert len(adapter.requests()) == (0 if behaviour in adapter.unseen else 1)

        await adapter.play(Behaviour.ACCEPT)
        async with asyncio.timeout(PATIENCE):
            (after,) = await adapter.provider.send([adapter.message(2)])
        assert isinstance(after, Accepted), f"{behaviour} must leave nothing broken behind: {after}"

    @pytest.mark.parametrize("behaviour", [Behaviour.RESET, Behaviour.HANG, Behaviour.SLOW_BODY])
    async def test_a_connection_used_before_makes_no_difference(
        self, adapter: ProviderAdapter, behaviour: Behaviour
    ) -> None:
        expected = adapter.differing.get(behaviour, OUTCOMES[behaviour])
        if expected is None:
            pytest.skip("cannot happen on this wire")
        assert isinstance((await adapter.provider.send([adapter.message(1)]))[0], Accepted)
        await adapter.play(behaviour)
        async with asyncio.timeout(PATIENCE):
            outcomes = await adapter.provider.send([adapter.message(2)])
        assert [type(outcome) for outcome in outcomes] == [expected]
        assert len(adapter.requests()) == (1 if behaviour in adapter.unseen else 2)

    async def test_requests_are_exactly_these(self, adapter: ProviderAdapter) -> None:
        messages = [adapter.message(number) for number in range(3)]
        outcomes = await adapter.provider.send(messages)
        assert outcomes == [Accepted(adapter.accepted_id(message)) for message in messages]
        expected = [adapter.expected_request(message) for message in messages]
        assert len({repr(request) for request in expected}) == len(messages)
        assert sorted(adapter.requests(), key=repr) == sorted(expected, key=repr)

    async def test_nothing_is_sent_for_nothing(self, adapter: ProviderAdapter) -> None:
        assert await adapter.provider.send([]) == []
        assert await adapter.provider.lookup([]) == []
        assert not adapter.requests()

    async def test_a_full_batch_is_sent(self, adapter: ProviderAdapter) -> None:
        messages = [adapter.message(number) for number in range(adapter.provider.batch_size)]
        async with asyncio.timeout(PATIENCE):
            outcomes = await adapter.provider.send(messages)
        assert outcomes == [Accepted(adapter.accepted_id(message)) for message in messages]

    async def test_a_call_that_is_cut_short_leaves_nothing_behind(self, adapter: ProviderAdapter) -> None:
        if adapter.differing.get(Behaviour.HANG, Unknown) is None:
            pytest.skip("cannot happen on this wire")
        await adapter.play(Behaviour.HANG)
        with standing_clock():
            call = asyncio.create_task(adapter.provider.send([adapter.message(1), adapter.message(2)]))
            async with asyncio.timeout(PATIENCE):
                while not adapter.requests() and not call.done():  # noqa: ASYNC110 - fakes tell nobody
                    await asyncio.sleep(0.005)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await adapter.play(Behaviour.ACCEPT)
        async with asyncio.timeout(PATIENCE):
            outcomes = await adapter.provider.send([adapter.message(3)])
        assert [type(outcome) for outcome in outcomes] == [Accepted]

    async def test_a_lookup_answers_for_every_message(self, adapter: ProviderAdapter) -> None:
        messages = [adapter.message(number) for number in range(3)]
        async with asyncio.timeout(PATIENCE):
            results = await adapter.provider.lookup(messages)
        # None of them was sent: whoever finds one would have it lost.
        assert [type(result) for result in results if not isinstance(result, (Absent, CannotTell))] == []
        assert len(results) == len(messages)

    @pytest.mark.parametrize(
        "behaviour",
        [Behaviour.HANG, Behaviour.RESET, Behaviour.REFUSE_CONNECTION, Behaviour.SERVER_ERROR,
         Behaviour.GARBAGE, Behaviour.RATE_LIMIT],
    )  # fmt: skip
    async def test_a_lookup_without_an_answer_proves_nothing(
        self, adapter: ProviderAdapter, behaviour: Behaviour
    ) -> None:
        if adapter.differing.get(behaviour, Unknown) is None or adapter.asks_memory:
            pytest.skip("its lookup asks nobody over this wire")
        await adapter.play(behaviour)
        async with asyncio.timeout(PATIENCE):
            assert await adapter.provider.lookup([adapter.message(1)]) == [CannotTell()]

    async def test_what_was_accepted_is_never_absent(self, adapter: ProviderAdapter) -> None:
        message = adapter.message(1)
        (outcome,) = await adapter.provider.send([message])
        assert isinstance(outcome, Accepted)
        async with asyncio.timeout(PATIENCE):
            (result,) = await adapter.provider.lookup([message])
        assert result in (Found(outcome.provider_message_id), CannotTell())

    async def test_it_closes_twice(self, adapter: ProviderAdapter) -> None:
        await adapter.provider.close()
        await adapter.provider.close()

    async def test_nothing_secret_is_shown(
        self,
        adapter: ProviderAdapter,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        message, unsent = adapter.message(1), adapter.message(2)
        shown = [repr(adapter.provider), *(repr(part) for part in vars(adapter.provider).values())]
        for behaviour in Behaviour:
            if adapter.differing.get(behaviour, Unknown) is None:
                continue
            await adapter.play(behaviour)
            async with asyncio.timeout(PATIENCE):
                shown.append(repr(await adapter.provider.send([message])))
                shown.append(repr(await adapter.provider.lookup([unsent])))
        for sample in adapter.webhooks.genuine if adapter.webhooks else ():
            adapter.provider.verify(sample.request)
            adapter.provider.verify(replace(sample.request, body=sample.request.body + b"x"))
        logged = caplog.text + "".join(capsys.readouterr())
        assert adapter.secrets
        for secret in adapter.secrets:
            assert secret not in "\n".join(shown) + logged
        for sent in (message, unsent):
            for content in (sent.body, sent.recipient, sent.recipient.lstrip("+")):
                assert content not in logged

    async def test_genuine_webhooks_say_exactly_this(self, adapter: ProviderAdapter) -> None:
        if adapter.webhooks is None:
            pytest.skip("it has no webhooks")
        assert adapter.webhooks.genuine
        for sample in adapter.webhooks.genuine:
            assert adapter.provider.verify(sample.request)
            content = adapter.provider.parse(sample.request)
            assert _in_lists(content) == _in_lists(sample.content)
            _check_content(content)

    async def test_the_same_news_has_the_same_key_and_other_news_another(
        self, adapter: ProviderAdapter
    ) -> None:
        if adapter.webhooks is None:
            pytest.skip("it has no webhooks")
        keys: list[str] = []
        for sample in adapter.webhooks.genuine:
            again = adapter.webhooks.redelivered(sample.request)
            assert adapter.provider.verify(again)
            assert _keys(adapter.provider.parse(again)) == _keys(sample.content)
            keys += _keys(sample.content)
        assert len(set(keys)) == len(keys)

    async def test_forged_webhooks_are_refused(self, adapter: ProviderAdapter) -> None:
        if adapter.webhooks is None:
            pytest.skip("it has no webhooks")
        draw = random.Random(7)  # noqa: S311 - seeded
        verify = adapter.provider.verify
        for sample in adapter.webhooks.genuine:
            request = sample.request
            assert not verify(adapter.webhooks.signed_by_a_stranger(request))
            assert not verify(replace(request, headers={}))
            assert not verify(replace(request, body=request.body + b"\n"))
            assert not verify(replace(request, body=b""))
            for name in adapter.webhooks.signature_headers:
                without = {key: value for key, value in request.headers.items() if key != name}
                assert len(without) < len(request.headers)
                assert not verify(replace(request, headers=without))
                for wrong in ("", "0", request.headers[name] + "A", "A" + request.headers[name], "\udcff"):
                    assert not verify(replace(request, headers={**request.headers, name: wrong}))
            for _ in range(100):
                body = bytearray(request.body)
                body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
                assert not verify(replace(request, body=bytes(body))), bytes(body)

    async def test_malformed_webhooks_name_what_is_wrong(self, adapter: ProviderAdapter) -> None:
        if adapter.webhooks is None:
            pytest.skip("it has no webhooks")
        assert adapter.webhooks.malformed
        for text, request in adapter.webhooks.malformed.items():
            assert adapter.provider.verify(request), text
            with pytest.raises(MalformedWebhookError) as raised:
                adapter.provider.parse(request)
            assert text in str(raised.value)

    async def test_strange_requests_are_refused_without_a_fuss(self, adapter: ProviderAdapter) -> None:
        for request in STRANGE:
            assert adapter.provider.verify(request) is False
            if adapter.webhooks is not None:
                with pytest.raises(MalformedWebhookError):
                    adapter.provider.parse(request)


def _check_text(outcome: Outcome, adapter: ProviderAdapter) -> None:
    """Check that an outcome can be stored and shown."""
    if isinstance(outcome, Accepted):
        return
    assert outcome.error_code
    assert len(outcome.error_code) <= 64
    assert outcome.error_message
    assert len(outcome.error_message) <= 1000
    for text in (outcome.error_code, outcome.error_message):
        assert text.isprintable()
        assert not [secret for secret in adapter.secrets if secret in text]


def _check_content(content: WebhookContent) -> None:
    for receipt in content.receipts:
        assert receipt.event_key
        assert receipt.state == "" or receipt.state in REPORTABLE
        assert receipt.message_id or receipt.provider_message_id
        assert receipt.provider_time is None or receipt.provider_time.tzinfo
    for message in content.inbound:
        assert message.event_key
        assert message.sender
        assert message.recipient
        assert message.provider_time is None or message.provider_time.tzinfo


def _in_lists(content: WebhookContent) -> WebhookContent:
    """Return the same content with lists for every sequence, so that it compares."""
    return replace(
        content,
        receipts=list(content.receipts),
        inbound=[replace(item, attachments=list(item.attachments)) for item in content.inbound],
    )


def _keys(content: WebhookContent) -> list[str]:
    return [item.event_key for item in content.receipts] + [item.event_key for item in content.inbound]
