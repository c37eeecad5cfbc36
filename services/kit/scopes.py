"""What callers may do, and what each RPC asks of them: one table, and nothing passes that is not in it."""

from typing import Final

from services.kit.errors import ForbiddenError

SEND: Final = "send"
READ: Final = "read"
ADMIN: Final = "admin"
WEBHOOK: Final = "webhook"
SCOPES: Final = (SEND, READ, ADMIN, WEBHOOK)
# Any caller that is known.
ANY: Final = ""

_MESSAGE: Final = "/posthouse.v1.MessageService/"
_CONVERSATION: Final = "/posthouse.v1.ConversationService/"
_DISPATCH: Final = "/posthouse.v1.DispatchService/"
_AUTH: Final = "/posthouse.v1.AuthService/"
_PRIVACY: Final = "/posthouse.v1.PrivacyService/"
_SUBSCRIPTION: Final = "/posthouse.v1.SubscriptionService/"

INGEST_WEBHOOK: Final = f"{_MESSAGE}IngestWebhook"
INGEST_WEBHOOKS: Final = f"{_MESSAGE}IngestWebhooks"
WATCH_EVENTS: Final = f"{_CONVERSATION}WatchEvents"

# Full name of the RPC -> the scope it needs. Whoever has ADMIN has them all.
SCOPE_OF_METHOD: Final = {
    f"{_MESSAGE}SendMessage": SEND,
    f"{_MESSAGE}SendMessages": SEND,
    f"{_MESSAGE}GetMessage": READ,
    f"{_MESSAGE}ListMessages": READ,
    f"{_MESSAGE}ListMessageEvents": READ,
    f"{_MESSAGE}CancelMessage": SEND,
    f"{_MESSAGE}PreviewMessage": SEND,
    f"{_MESSAGE}ReceiveMessages": WEBHOOK,
    INGEST_WEBHOOK: WEBHOOK,
    INGEST_WEBHOOKS: WEBHOOK,
    f"{_MESSAGE}ListOptOuts": READ,
    f"{_MESSAGE}AddOptOut": SEND,
    # It makes people reachable again who asked not to be.
    f"{_MESSAGE}RemoveOptOut": ADMIN,
    f"{_MESSAGE}ListConsentEvents": READ,
    f"{_CONVERSATION}GetConversation": READ,
    f"{_CONVERSATION}LookupConversation": READ,
    f"{_CONVERSATION}ListConversations": READ,
    f"{_CONVERSATION}ListConversationMessages": READ,
    f"{_CONVERSATION}ListConversationChanges": READ,
    f"{_CONVERSATION}SearchMessages": READ,
    f"{_CONVERSATION}MarkConversationRead": SEND,
    f"{_CONVERSATION}ArchiveConversation": SEND,
    f"{_CONVERSATION}UnarchiveConversation": SEND,
    f"{_CONVERSATION}UpdateConversation": SEND,
    f"{_CONVERSATION}GetConversationStats": READ,
    WATCH_EVENTS: READ,
    f"{_DISPATCH}ListProviders": READ,
    f"{_DISPATCH}ListDispatchAttempts": READ,
    f"{_DISPATCH}ListDeadLetters": READ,
    f"{_DISPATCH}ReplayDeadLetters": ADMIN,
    f"{_DISPATCH}ResolveMessage": ADMIN,
    f"{_DISPATCH}ResetBreaker": ADMIN,
    f"{_DISPATCH}GetSimulatorProfile": READ,
    f"{_DISPATCH}SetSimulatorProfile": ADMIN,
    # They send what happens to everyone to whoever owns an address, which may hold a secret itself.
    f"{_SUBSCRIPTION}CreateSubscription": ADMIN,
    f"{_SUBSCRIPTION}GetSubscription": ADMIN,
    f"{_SUBSCRIPTION}ListSubscriptions": ADMIN,
    f"{_SUBSCRIPTION}UpdateSubscription": ADMIN,
    f"{_SUBSCRIPTION}DeleteSubscription": ADMIN,
    f"{_SUBSCRIPTION}RotateSubscriptionSecret": ADMIN,
    f"{_SUBSCRIPTION}ReplayEvents": ADMIN,
    f"{_SUBSCRIPTION}ListEventDeliveries": ADMIN,
    f"{_AUTH}CreateApiKey": ADMIN,
    f"{_AUTH}ListApiKeys": ADMIN,
    f"{_AUTH}RotateApiKey": ADMIN,
    f"{_AUTH}RevokeApiKey": ADMIN,
    f"{_AUTH}GetCaller": ANY,
    f"{_PRIVACY}EraseAddress": ADMIN,
    f"{_PRIVACY}GetErasure": ADMIN,
    f"{_PRIVACY}ListErasures": ADMIN,
}


def check_scope(scopes: frozenset[str], needed: str) -> None:
    """Raise ForbiddenError unless the scopes of a caller allow what needs `needed`."""
    if needed != ANY and needed not in scopes and ADMIN not in scopes:
        raise ForbiddenError(f"the credential lacks the scope {needed}")
