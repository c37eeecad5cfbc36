"""Channels share their calls among the copies of a service."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.client import open_channel


class _Counting(health_pb2_grpc.HealthServicer):
    def __init__(self) -> None:
        self.count = 0

    async def Check(  # noqa: N802
        self, _request: health_pb2.HealthCheckRequest, _context: object
    ) -> health_pb2.HealthCheckResponse:
        self.count += 1
        return health_pb2.HealthCheckResponse()


async def test_every_copy_gets_its_share() -> None:
    copies = [_Counting(), _Counting()]
    servers = [grpc.aio.server() for _ in copies]
    ports = []
    for server, copy in zip(servers, copies, strict=True):
        health_pb2_grpc.add_HealthServicer_to_server(copy, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with open_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # Until both are connected, one may get everything.
        while not all(copy.count for copy in copies):
            await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
        before = [copy.count for copy in copies]
        for _ in range(10):
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert [copy.count - old for copy, old in zip(copies, before, strict=True)] == [5, 5]
    for server in servers:
        await server.stop(None)
