"""Translates the RPCs of AuthService to the use cases behind them."""

from typing import Any

import grpc

from posthouse.v1 import auth_service_pb2 as pb
from posthouse.v1 import auth_service_pb2_grpc as pb_grpc
from services.kit.callers import current_caller
from services.kit.enum_names import SCOPE
from services.kit.errors import InvalidRequestError
from services.kit.fields import read_time
from services.kit.paging import encode_token, page_size, read_id
from services.kit.scopes import SCOPES
from services.message.api_keys import ApiKeyKeeper

_Context = grpc.aio.ServicerContext[Any, Any]


class AuthServicer(pb_grpc.AuthServiceServicer):
    """AuthService over its use cases."""

    def __init__(self, keeper: ApiKeyKeeper) -> None:
        self._keeper = keeper

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, _context: _Context
    ) -> pb.CreateApiKeyResponse:
        """Make a key."""
        expires = read_time("expire_time", request.expire_time) if request.HasField("expire_time") else None
        key, secret = await self._keeper.create(
            request.name, [SCOPE.word(number) for number in request.scopes], expires
        )
        return pb.CreateApiKeyResponse(api_key=key, secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, _context: _Context) -> pb.ListApiKeysResponse:
        """List keys, newest first."""
        size = page_size(request.page_size)
        filter_key = ["api_keys", request.include_revoked]
        keys = await self._keeper.list(
            include_revoked=request.include_revoked,
            before=read_id(request.page_token, filter_key),
            limit=size + 1,
        )
        more = len(keys) > size
        return pb.ListApiKeysResponse(
            api_keys=keys[:size],
            next_page_token=encode_token(filter_key, [keys[size - 1].id]) if more else "",
        )

    async def RotateApiKey(
        self, request: pb.RotateApiKeyRequest, _context: _Context
    ) -> pb.RotateApiKeyResponse:
        """Give a key a new secret."""
        try:
            overlap = request.overlap.ToTimedelta()
        except (ValueError, OverflowError):
            raise InvalidRequestError.field("overlap", "is not a duration") from None
        key, secret = await self._keeper.rotate(request.api_key_id, overlap)
        return pb.RotateApiKeyResponse(api_key=key, secret=secret)

    async def RevokeApiKey(
        self, request: pb.RevokeApiKeyRequest, _context: _Context
    ) -> pb.RevokeApiKeyResponse:
        """End a key."""
        return pb.RevokeApiKeyResponse(api_key=await self._keeper.revoke(request.api_key_id))

    async def GetCaller(self, _request: pb.GetCallerRequest, _context: _Context) -> pb.GetCallerResponse:
        """Return who calls; without authentication everyone may do everything."""
        caller = current_caller()
        scopes = SCOPES if caller is None else caller.scopes
        return pb.GetCallerResponse(
            id="" if caller is None else caller.id,
            scopes=[SCOPE.number(scope) for scope in SCOPES if scope in scopes],
        )
