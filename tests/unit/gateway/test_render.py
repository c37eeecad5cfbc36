"""What is rendered: null where a resource says nothing, and every field where it says something."""

from collections.abc import Callable
from types import NoneType
from typing import Any, get_args

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

from gateway import (
    answers,
    erasures,
    operation_shapes,
    opt_out_shapes,
    opt_outs,
    render,
    subscription_shapes,
    subscriptions,
)
from posthouse.v1 import (
    consent_pb2,
    conversation_pb2,
    conversation_service_pb2,
    dispatch_pb2,
    message_pb2,
    message_service_pb2,
    privacy_service_pb2,
    subscription_pb2,
)

_SCALARS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_INT32: 3,
    FieldDescriptor.CPPTYPE_INT64: 3,
    FieldDescriptor.CPPTYPE_UINT32: 3,
    FieldDescriptor.CPPTYPE_UINT64: 3,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_ENUM: 1,
}


def _preview(item: message_service_pb2.PreviewMessageResponse) -> render.Json:
    return render.preview(item, "/", "r1")


def _workflow(item: conversation_pb2.Conversation) -> render.Json:
    return render.phone_workflow("+15559876543", item)


_RENDERED: list[tuple[Callable[[Any], render.Json], type[Message], type[BaseModel]]] = [
    (render.accepted, message_service_pb2.AcceptedMessage, answers.Accepted),
    (render.message, message_pb2.Message, answers.Message),
    (render.message_event, message_pb2.MessageEvent, answers.MessageEvent),
    (_preview, message_service_pb2.PreviewMessageResponse, answers.Preview),
    (render.conversation, conversation_pb2.Conversation, answers.Conversation),
    (render.conversation_change, conversation_pb2.ConversationChange, answers.ConversationChange),
    (_workflow, conversation_pb2.Conversation, answers.PhoneWorkflow),
    (render.phone_message, message_pb2.Message, answers.PhoneMessage),
    (render.stats, conversation_service_pb2.GetConversationStatsResponse, answers.Stats),
    (render.attempt, dispatch_pb2.DispatchAttempt, answers.Attempt),
    (render.provider, dispatch_pb2.Provider, operation_shapes.Provider),
    (render.dead_letter, dispatch_pb2.DeadLetter, operation_shapes.DeadLetter),
    (opt_outs._opt_out, consent_pb2.OptOut, opt_out_shapes.OptOut),
    (opt_outs._event, consent_pb2.ConsentEvent, opt_out_shapes.ConsentEvent),
    (erasures._erasure, privacy_service_pb2.Erasure, erasures.Erasure),
    (subscriptions._subscription, subscription_pb2.Subscription, subscription_shapes.Subscription),
    (subscriptions._delivery, subscription_pb2.EventDelivery, subscription_shapes.EventDelivery),
]
_each = pytest.mark.parametrize(
    ("rendered", "resource", "shape"), _RENDERED, ids=[shape.__name__ for _, _, shape in _RENDERED]
)


def _fill(message: Message) -> None:
    """Set every field, of messages within messages too."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            value["k"] = "v" if kind.fields_by_name["value"].cpp_type == field.CPPTYPE_STRING else 3
        elif kind is not None:
            _fill(value.add() if field.is_repeated else value)
        else:
            scalar = _SCALARS.get(field.cpp_type, b"x" if field.type == field.TYPE_BYTES else "x")
            setattr(message, field.name, scalar) if not field.is_repeated else value.append(scalar)


@_each
def test_of_nothing_what_may_be_null_is_null(
    rendered: Callable[[Any], render.Json], resource: type[Message], shape: type[BaseModel]
) -> None:
    found = rendered(resource())
    nullable = {
        field.alias or name
        for name, field in shape.model_fields.items()
        if NoneType in get_args(field.annotation)
    }
    assert {name for name in nullable if found[name] is not None} == set()


@_each
def test_everything_that_is_said_is_shown(
    rendered: Callable[[Any], render.Json], resource: type[Message], shape: type[BaseModel]
) -> None:
    full = resource()
    _fill(full)
    found = rendered(full)
    assert set(found) == {field.alias or name for name, field in shape.model_fields.items()}
    assert {name for name, value in found.items() if not value} == set()
