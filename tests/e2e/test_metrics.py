"""What a running stack says of itself: /metrics, and the alerts and the dashboard that read it."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import promql_parser
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.stack import E2eStack, eventually

pytestmark = pytest.mark.integration

_DEPLOY = Path(__file__).parents[2] / "deploy"
_SEND = {"from": "+15551234567", "to": "+15559870011", "body": "Counted"}
_ALERTS = {
    "PosthouseApiErrorRate",
    "PosthouseQueueDepth",
    "PosthouseApiLatency",
    "PosthouseProviderFailing",
    "PosthouseOutboxAge",
    "PosthouseContentUnreadable",
}
_PROMISED = {
    "message": {"messages_accepted_total", "duplicates_skipped_total", "rate_limited_total"},
    "conversation": {"conversation_active_count", "languages_detected_total", "tenant_lookups_total"},
    "dispatch": {
        "messages_sent_total",
        "messages_failed_total",
        "provider_error_rate",
        "dispatch_attempts_total",
        "dispatch_successes_total",
        "dispatch_failures_total",
        "posthouse_breaker_state",
        "breaker_transitions_total",
    },
    "gateway": {"api_request_duration_seconds"},
}
_PROMISED_OF_ALL = {"queue_depth", "outbox_age_seconds", "db_connection_pool_usage"}


def _read(stack: E2eStack, process: str) -> str:
    ports = dict(zip(("message", "conversation", "dispatch"), range(3, 6), strict=True))
    port = stack.http_port if process == "gateway" else stack.grpc_port + ports[process]
    response = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=30)
    assert response.status_code == 200
    return response.text


def _families(text: str) -> dict[str, str]:
    """Return the type of each metric that is exposed."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def _series(families: dict[str, str]) -> set[str]:
    """Return the names that queries may use."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
    return {name + suffix for name, kind in families.items() for suffix in suffixes.get(kind, ("",))}


def _value(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _queries() -> dict[str, str]:
    """Return every query of the alerts and of the dashboard by what asks it."""
    rules = yaml.safe_load((_DEPLOY / "prometheus/alerts.yml").read_text())
    dashboard = json.loads((_DEPLOY / "grafana/posthouse.json").read_text())
    asked = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m")
            asked[f"{panel['title']} {target['refId']}"] = query
    return asked


def _selectors(expression: Any) -> set[str]:
    """Return the names of the metrics in a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        return {expression.name}
    parts: list[Any] = list(getattr(expression, "args", ()))
    parts += [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    return {name for part in parts if part is not None for name in _selectors(part)}


def test_every_process_serves_what_is_promised(stack: E2eStack) -> None:
    for process, promised in _PROMISED.items():
        families = _families(_read(stack, process))
        assert promised <= families.keys()
        assert families.keys() >= _PROMISED_OF_ALL


def test_a_message_is_counted_on_its_way(stack: E2eStack) -> None:
    sent = 'messages_sent_total{channel="sms",provider="simulator"}'
    ended = 'dispatch_successes_total{channel="sms",provider="simulator"}'
    taken = 'api_request_duration_seconds_count{route="/api/v1/messages/send",status="202"}'
    before = _read(stack, "dispatch"), _read(stack, "gateway")
    key = {"Idempotency-Key": "counted-once"}
    for _ in range(2):
        assert stack.http.post("/api/v1/messages/send", json=_SEND, headers=key).status_code == 202

    def counted() -> bool:
        after = _read(stack, "dispatch")
        return all(_value(after, name) > _value(before[0], name) for name in (sent, ended))

    eventually(counted, what="the message is counted as sent")
    assert _value(_read(stack, "gateway"), taken) >= _value(before[1], taken) + 2
    assert _value(_read(stack, "message"), 'duplicates_skipped_total{kind="send"}') >= 1
    eventually(
        lambda: _value(_read(stack, "conversation"), "conversation_active_count") >= 1,
        what="conversations are counted",
    )


def test_alerts_and_dashboard_ask_for_what_exists(stack: E2eStack) -> None:
    known = {"up"}
    for process in _PROMISED:
        known |= _series(_families(_read(stack, process)))
    queries = _queries()
    assert queries.keys() >= _ALERTS
    for name, query in queries.items():
        asked = _selectors(promql_parser.parse(query))
        assert asked, name
        assert asked <= known, name


def test_alerts_of_the_api_leave_out_probes() -> None:
    routes = re.compile(r'api_request_duration_seconds_\w+\{[^}]*route!~"([^"]+)"')
    for name in ("PosthouseApiErrorRate", "PosthouseApiLatency"):
        query = _queries()[name]
        excluded = routes.findall(query)
        assert len(excluded) == query.count("api_request_duration_seconds_"), name
        assert all({"/health", "/ready", "/metrics"} <= set(each.split("|")) for each in excluded), name


def test_prometheus_scrapes_the_ports_of_the_processes() -> None:
    config = yaml.safe_load((_DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    targets = {entry["labels"]["process"]: entry["targets"] for entry in job["static_configs"]}
    assert targets == {
        "gateway": ["gateway:8000"],
        "message": ["message:50054"],
        "conversation": ["conversation:50055"],
        "dispatch": ["dispatch:50056"],
    }
    assert config["rule_files"] == ["alerts.yml"]


def test_readiness_reports_what_the_services_need(stack: E2eStack) -> None:
    expected = dict.fromkeys(("postgresql", "nats", "outbox", "providers", "monitor"), True)
    eventually(
        lambda: stack.http.get("/ready").json()["reported"] == expected,
        what=f"all that is reported answers\n{stack.http.get('/ready').text}",
    )
    assert stack.http.get("/health").json()["reported"].keys() == expected.keys()
    with stack.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="nats"), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
