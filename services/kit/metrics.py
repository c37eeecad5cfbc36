"""Prometheus metrics of all processes. Labels are bounded: channels, providers, outcomes, methods."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

RPC_SECONDS = Histogram(
    "posthouse_rpc_duration_seconds", "Seconds a gRPC call took.", ["method", "code"], buckets=_LATENCY
)
HTTP_SECONDS = Histogram(
    "api_request_duration_seconds", "Seconds an HTTP request took.", ["route", "status"], buckets=_LATENCY
)
HTTP_SHED = Counter(
    "http_requests_shed_total",
    "Requests refused before anything read them: malformed, too slow, too large, by status.",
    ["status"],
)
MESSAGES_ACCEPTED = Counter("messages_accepted_total", "Messages accepted for sending.", ["channel"])
MESSAGES_RECEIVED = Counter("messages_received_total", "Inbound messages stored.", ["channel"])
MESSAGES_SENT = Counter("messages_sent_total", "Messages a provider took.", ["channel", "provider"])
MESSAGES_FAILED = Counter("messages_failed_total", "Messages given up.", ["channel", "reason"])
CONVERSATIONS_ACTIVE = Gauge(
    "conversation_active_count", "Conversations with a message within the last 24 hours."
)
DUPLICATES = Counter(
    "duplicates_skipped_total", "Repeats that changed nothing, by what was repeated.", ["kind"]
)
QUEUE_DEPTH = Gauge("queue_depth", "Messages that wait, by what they wait for.", ["queue"])
OUTBOX_AGE = Gauge("outbox_age_seconds", "Seconds the oldest overdue row of the outbox has waited.")
POOL_USAGE = Gauge("db_connection_pool_usage", "Connections to PostgreSQL that are in use.", ["pool"])
POOL_SIZE = Gauge("db_connection_pool_size", "Connections to PostgreSQL that may be used.", ["pool"])
DEPENDENCY_UP = Gauge("dependency_up", "Whether what the process depends on answers: 1 or 0.", ["dependency"])
CLOCK_AHEAD = Gauge(
    "clock_ahead_seconds", "Seconds by which the clock of the process is ahead of PostgreSQL's."
)
CONTENT_UNREADABLE = Counter(
    "content_unreadable_total",
    "Times that encrypted content could not be opened, by why: key_missing or damaged.",
    ["reason"],
)
RECEIPTS = Counter("delivery_receipts_total", "Delivery receipts, by what became of them.", ["result"])
WEBHOOKS = Counter("webhooks_total", "Webhook requests, by verdict.", ["provider", "verdict"])
WEBHOOKS_NOT_KEPT = Counter(
    "webhooks_not_kept_total",
    "Forged webhook requests that are in no log, since enough of them were kept.",
    ["provider"],
)
ATTEMPTS = Counter(
    "dispatch_attempts_total", "Dispatch attempts by outcome.", ["channel", "provider", "outcome"]
)
DISPATCH_SUCCESSES = Counter(
    "dispatch_successes_total", "Dispatch attempts that the provider accepted.", ["channel", "provider"]
)
DISPATCH_FAILURES = Counter(
    "dispatch_failures_total",
    "Dispatch attempts that were not accepted, by outcome.",
    ["channel", "provider", "outcome"],
)
PROVIDER_ERROR_RATE = Gauge(
    "provider_error_rate",
    "Share of a provider's outcomes within the last minute that were its failures, from 0 to 1.",
    ["provider", "channel"],
)
PROVIDER_FAILURES_IN_A_ROW = Gauge(
    "provider_consecutive_failures",
    "Failures of a provider since its last success.",
    ["provider", "channel"],
)
BREAKER_TRANSITIONS = Counter(
    "breaker_transitions_total",
    "Changes of a provider's breaker, by its new state.",
    ["provider", "channel", "to"],
)
BREAKER_STATE = Gauge(
    "posthouse_breaker_state",
    "State of a provider's breaker: 0 closed, 1 half-open, 2 open.",
    ["provider", "channel"],
)
MESSAGES_HELD_BACK = Counter(
    "messages_held_back_total",
    "Messages put off after their claim, by what held them up.",
    ["channel", "by"],
)
DISPATCH_POSTPONED = Counter(
    "dispatch_postponed_total",
    "Envelopes put off before their claim, by what held them up.",
    ["channel", "by"],
)
RATE_LIMITED = Counter("rate_limited_total", "Hits refused by a rate limit, by what is limited.", ["scope"])
RATE_LIMIT_UNCHECKED = Counter(
    "rate_limit_unchecked_total", "Hits that passed unchecked since the storage of the counts was away."
)
COMMIT_BATCH = Histogram(
    "intake_commit_batch_size",
    "Items that shared a transaction of intake.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
COMMIT_QUEUE = Gauge("intake_queue_depth", "Items that wait for their transaction of intake.")
REPUBLISHED = Counter("outbox_republished_total", "Outbox rows the sweeper published again.", ["kind"])
BACKGROUND_FAILURES = Counter(
    "background_failures_total", "Times that work in the background failed and began again.", ["work"]
)
OPT_OUT_REFUSALS = Counter(
    "opt_out_refusals_total", "Messages not sent since the recipient had opted out.", ["channel", "stage"]
)
CONSENT_EVENTS = Counter(
    "consent_events_total", "Changes of consent recorded.", ["change", "source", "effective"]
)
WATCHERS = Gauge("event_watchers", "Watchers of events that are connected.", ["via"])
WATCHERS_DROPPED = Counter(
    "event_watchers_dropped_total", "Streams of events that were ended.", ["via", "why"]
)
WATCH_LAG = Histogram(
    "event_watch_lag_seconds",
    "Seconds from the commit of an event until it is handed to the watchers.",
    buckets=_LATENCY,
)
WATCH_GAPS = Counter("event_watch_gaps_total", "Gaps in the log of events that watchers were told of.")
WATCH_REORDERED = Counter(
    "event_watch_reordered_total",
    "Events taken from the ledger since a later one of their message came first.",
)
SEARCH_LAG = Gauge(
    "search_lag_seconds", "Seconds between the newest message and the newest that search knows of."
)
SEARCH_INDEXED = Counter(
    "search_indexed_total", "Messages indexed for search, by the pass that did it.", ["by"]
)
LANGUAGES_DETECTED = Counter("languages_detected_total", "Inbound messages by language.", ["language"])
LANGUAGE_CHANGES = Counter("language_changes_total", "Changes of a conversation's language.", ["language"])
TENANT_LOOKUPS = Counter(
    "tenant_lookups_total", "Lookups of numbers: known, unknown, ambiguous or failed.", ["result"]
)
TENANT_RECONCILIATIONS = Counter(
    "tenant_reconciliations_total", "Conversations linked to a tenant who was unknown when they were stored."
)
TENANT_PUSHES = Counter(
    "tenant_language_pushes_total", "Language preferences written into the monitor.", ["result"]
)
EVENT_DELIVERIES = Counter(
    "event_deliveries_total", "Attempts to post an event: delivered, retried or failed.", ["result"]
)
EVENT_DELIVERY_SECONDS = Histogram(
    "event_delivery_duration_seconds", "Seconds an attempt to post an event took.", buckets=_LATENCY
)
EVENT_DELIVERY_LAG = Histogram(
    "event_delivery_lag_seconds",
    "Seconds from the commit of an event to its first attempt, if that succeeded.",
    buckets=(*_LATENCY, 30, 60, 300),
)
SUBSCRIPTIONS_DISABLED = Counter(
    "subscriptions_disabled_total",
    "Subscriptions that were disabled, by reason: request, failing, gone.",
    ["reason"],
)
