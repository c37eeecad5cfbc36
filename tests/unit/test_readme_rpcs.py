"""The README lists the RPCs that are not there yet, and no others."""

import ast
import re
from pathlib import Path

import pytest

from posthouse.v1 import (
    auth_service_pb2,
    conversation_service_pb2,
    dispatch_service_pb2,
    message_service_pb2,
    privacy_service_pb2,
    subscription_service_pb2,
)

_ROOT = Path(__file__).parents[2]


def test_what_is_not_implemented_is_listed() -> None:
    block = re.search(
        r"<!-- unimplemented -->\n(.*?)<!-- /unimplemented -->", (_ROOT / "README.md").read_text(), re.DOTALL
    )
    assert block is not None
    assert block[1].splitlines() == ["| service | RPCs |", "|---|---|", *_rows()]


@pytest.mark.parametrize(
    ("source", "implemented"),
    [
        ("async def Send(self): return 1", True),
        ("async def Send(self): raise NotImplementedYetError('Send')", False),
        ("async def Receive(self): return 1", False),
    ],
)
def test_an_rpc_is_implemented_when_its_method_does_not_refuse(source: str, implemented: bool) -> None:
    assert ("Send" in _implemented(ast.parse(source))) is implemented


def _rows() -> list[str]:
    """Return the rows that the servicers' code calls for."""
    rows = []
    for place, module in {
        "message/servicer": message_service_pb2,
        "message/auth_servicer": auth_service_pb2,
        "message/privacy_servicer": privacy_service_pb2,
        "conversation/servicer": conversation_service_pb2,
        "conversation/subscription_servicer": subscription_service_pb2,
        "dispatch/servicer": dispatch_service_pb2,
    }.items():
        (service,) = module.DESCRIPTOR.services_by_name.values()
        code = ast.parse((_ROOT / "services" / f"{place}.py").read_text())
        missing = [method.name for method in service.methods if method.name not in _implemented(code)]
        if missing:
            rows.append(f"| {service.name} | {', '.join(missing)} |")
    return rows


def _implemented(code: ast.Module) -> set[str]:
    """Return the functions that do not raise NotImplementedYetError themselves."""
    return {
        node.name
        for node in ast.walk(code)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _refuses(node)
    }


def _refuses(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "NotImplementedYetError"
        for node in ast.walk(function)
    )
