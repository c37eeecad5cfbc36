"""Translates the RPCs of PrivacyService to the use cases behind them."""

from typing import Any

import grpc

from posthouse.v1 import privacy_service_pb2 as pb
from posthouse.v1 import privacy_service_pb2_grpc as pb_grpc
from services.message.erasing import Eraser

_Context = grpc.aio.ServicerContext[Any, Any]


class PrivacyServicer(pb_grpc.PrivacyServiceServicer):
    """PrivacyService over its use cases."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser

    async def EraseAddress(
        self, request: pb.EraseAddressRequest, _context: _Context
    ) -> pb.EraseAddressResponse:
        """Begin to erase an address."""
        return await self._eraser.begin(request)

    async def GetErasure(self, request: pb.GetErasureRequest, _context: _Context) -> pb.GetErasureResponse:
        """Return an erasure."""
        return pb.GetErasureResponse(erasure=await self._eraser.get(request.erasure_id))

    async def ListErasures(
        self, request: pb.ListErasuresRequest, _context: _Context
    ) -> pb.ListErasuresResponse:
        """List erasures."""
        return await self._eraser.page(request)
