"""What people write, where they are reached, and what is secret: no process puts it into its output."""

import os
from collections.abc import Iterator
from itertools import islice

import pytest

from cli.datadir import DataDir
from tests.e2e.canaries import KEY_NAME, SECRET, Driver, leaks, log_lines
from tests.e2e.collector import Collector, running_collector
from tests.e2e.stack import PROGRAM, E2eStack, eventually, running_stack
from tests.servers import free_ports

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

# Lines to read at least; `make canaries` reads a hundred thousand.
_LINES = int(os.environ.get("CANARY_LOG_LINES", "100"))
# With that many, each pass has these besides, so that lines of every kind are many.
_MANY = 10_000
_FORGED, _BATCHES = 500, 12


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture
def guarded(collector: Collector) -> Iterator[E2eStack]:
    # Providers that nobody answers for: their errors are logged, too.
    nobody = f"http://127.0.0.1:{free_ports(1)}"
    settings = {
        "POSTHOUSE_LOG_LEVEL": "debug",
        "POSTHOUSE_API_KEY_SECRET": SECRET * 2,
        "POSTHOUSE_ROUTES": (
            "sms=simulator sms[to=+44]=twilio mms=simulator"
            " email[from=desk.canary@example.com]=sendgrid email=smtp"
        ),
        "POSTHOUSE_DISPATCH_MAX_ATTEMPTS": "2",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": SECRET,
        "POSTHOUSE_TWILIO_BASE_URL": nobody,
        "SENDGRID_API_KEY": SECRET,
        "POSTHOUSE_SENDGRID_BASE_URL": nobody,
        "POSTHOUSE_SENDGRID_INBOUND_TOKEN": SECRET,
        "SMTP_URL": f"smtp://canary:{SECRET}@127.0.0.1:{free_ports(1)}?tls=none",
        "MONITOR_API_URL": nobody,
        "POSTHOUSE_SUBSCRIPTION_NETWORKS": "127.0.0.0/8",
        "POSTHOUSE_SUBSCRIPTION_PORTS": "*",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    with running_stack(settings) as running:
        yield running


def test_no_canary_is_in_any_output(guarded: E2eStack, collector: Collector) -> None:
    scopes = [word for scope in ("send", "read", "admin", "webhook") for word in ("--scope", scope)]
    made = guarded.run(str(PROGRAM), "keys", "create", "canary", *scopes, "--data-dir", str(guarded.data))
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip().splitlines()[-1]
    guarded.http.headers[KEY_NAME] = key
    signing = DataDir(guarded.data).secret()
    with guarded.channel(0) as message, guarded.channel(1) as conversation, guarded.channel(2) as dispatch:
        channels = {"MessageService": message, "AuthService": message, "PrivacyService": message}
        channels |= {"ConversationService": conversation, "SubscriptionService": conversation}
        channels |= {"DispatchService": dispatch}
        driver = Driver(guarded.http, channels, key, signing)
        driver.subscribe(free_ports(1))
        logs = guarded.data / "logs"
        driver.sends()
        # Before the routes are driven: they erase and opt out.
        sent = "SELECT count(*) > 5 FROM messages WHERE recipient = '+15558675309'"
        assert guarded.rows(sent) == [(True,)]
        while True:
            driver.crowd(_BATCHES if _LINES > _MANY else 0)
            driver.sends()
            driver.routes()
            driver.rpcs()
            driver.watches()
            driver.webhooks(_FORGED if _LINES > _MANY else 3)
            if sum(1 for _ in log_lines(logs)) >= _LINES:
                break
    # What was accepted has been tried, and given up where nobody answers.
    waiting = "SELECT count(*) FROM messages WHERE direction = 'outbound' AND state IN ('pending', 'sending')"
    eventually(lambda: guarded.rows(waiting) == [(0,)], timeout=1800, what="everything was tried")
    guarded.terminate()

    lines = sum(1 for _ in log_lines(logs))
    assert lines >= _LINES
    own = [*guarded.log.read_text(errors="replace").splitlines(), *log_lines(logs)]
    found = list(islice(leaks(own), 20))
    assert not found, "\n".join(found)
    assert key not in "\n".join(own)
    traced = list(islice(leaks(collector.texts), 20))
    assert not traced, "\n".join(traced)
    assert {"gateway", "message", "conversation", "dispatch"} == {span.process for span in collector.spans}
    refused = list(islice(leaks(driver.answers), 20))
    assert not refused, "\n".join(refused)
    spans = len(collector.spans)
    print(f"{lines:,} lines of logs, {spans:,} spans, {len(driver.answers):,} errors answered")  # noqa: T201 - what `make` shows
