"""Every RPC of the contracts has a method in its servicer: what it inherits answers UNIMPLEMENTED."""

from typing import Any

import pytest

from posthouse.v1 import (
    auth_service_pb2,
    conversation_service_pb2,
    dispatch_service_pb2,
    message_service_pb2,
    privacy_service_pb2,
    subscription_service_pb2,
)
from services.conversation.servicer import ConversationServicer
from services.conversation.subscription_servicer import SubscriptionServicer
from services.dispatch.servicer import DispatchServicer
from services.message.auth_servicer import AuthServicer
from services.message.privacy_servicer import PrivacyServicer
from services.message.servicer import MessageServicer


@pytest.mark.parametrize(
    ("contract", "servicer"),
    [
        (auth_service_pb2, AuthServicer),
        (conversation_service_pb2, ConversationServicer),
        (dispatch_service_pb2, DispatchServicer),
        (message_service_pb2, MessageServicer),
        (privacy_service_pb2, PrivacyServicer),
        (subscription_service_pb2, SubscriptionServicer),
    ],
)
def test_every_rpc_is_there(contract: Any, servicer: type) -> None:
    (service,) = contract.DESCRIPTOR.services_by_name.values()
    assert {method.name for method in service.methods} <= set(vars(servicer))
