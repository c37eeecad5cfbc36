"""What is kept of a provider's request has no secrets in it."""

import orjson
import pytest

from services.message.webhook_logging import log_entry
from services.providers.base import WebhookRequest


@pytest.mark.parametrize("name", ["token", "TOKEN", "%74oken", "%54%4fken"])
def test_the_secret_of_a_url_is_not_kept_however_it_is_written(name: str) -> None:
    url = f"https://example.com/api/v1/webhooks/sendgrid?a=b%20c&{name}=s3cret=1&d"
    request = WebhookRequest("POST", url, {"x-original-uri": url, "accept": "*/*?"}, b"")
    entry = log_entry("0" * 36, "sendgrid", request, remote_address="", verdict="accepted")
    kept = f"https://example.com/api/v1/webhooks/sendgrid?a=b%20c&{name}=***&d"
    assert entry.url == kept
    assert orjson.loads(entry.headers) == {"x-original-uri": kept, "accept": "*/*?"}
