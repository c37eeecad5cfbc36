"""Watchers by the ten thousand: `python -m benchmarks.watchers --watchers 100000 --eager 10000 --gateways 6`.

Starts a stack and more gateways, or with `--over grpc` more conversation processes, connects idle watchers
and some that see everything, and prints the memory a watcher takes in the process that serves it, and the
time one message's first event takes to the last that sees everything.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.stack import BenchStack, StartFailedError, environment, running_stack
from cli.embedded.spawn import Process, spawn
from tests.ports import free_ports


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchers", description=__doc__)
    parser.add_argument("--watchers", type=int, default=1000, help="connections in all")
    parser.add_argument("--eager", type=int, default=1000, help="how many of them see everything")
    parser.add_argument("--over", choices=("sse", "grpc"), default="sse", help="how they watch")
    parser.add_argument(
        "--gateways", type=int, default=1, help="gateways, or conversation processes, for them"
    )
    parser.add_argument("--rounds", type=int, default=1, help="unused connections settle for so many seconds")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-watchers-"))
    with contextlib.ExitStack() as stack_of, running_stack() as stack:
        serve = _gateway if options.over == "sse" else _conversation
        gateways = [serve(stack, folder, number, stack_of) for number in range(options.gateways)]
        before = [_memory(process) for process, _, _ in gateways]
        share, eager = options.watchers // options.gateways, options.eager // options.gateways
        module = "benchmarks.watch_load" if options.over == "sse" else "benchmarks.grpc_watch_load"
        clients = [_clients(module, host, port, share - eager, eager, stack_of) for _, host, port in gateways]
        ready = [json.loads(_line(client)) for client in clients]
        time.sleep(options.rounds)
        after = [_memory(process) for process, _, _ in gateways]
        began = time.time()
        _send(stack.http_port)
        heard = [json.loads(_line(client)) for client in clients]
        connected = sum(each["connected"] for each in ready)
        print(
            json.dumps(
                {
                    "watchers": connected,
                    "gateways": options.gateways,
                    "connect_seconds": round(max(each["seconds"] for each in ready), 1),
                    "bytes_per_watcher": round((sum(after) - sum(before)) / connected),
                    "eager": sum(each["heard"] for each in heard),
                    "seconds_to_the_last": round(max(each["time"] for each in heard) - began, 3),
                }
            )
        )


def _gateway(
    stack: BenchStack, folder: Path, number: int, ends: contextlib.ExitStack
) -> tuple[Process, str, int]:
    """Start one more gateway, on a loopback address of its own."""
    host, port = f"127.0.0.{number + 1}", free_ports(1)
    address = "127.0.0.1:{}".format
    settings = {
        "POSTHOUSE_HOST": host,
        "POSTHOUSE_HTTP_PORT": str(port),
        "POSTHOUSE_MESSAGE_ADDRESS": address(stack.grpc_port),
        "POSTHOUSE_CONVERSATION_ADDRESS": address(stack.grpc_port + 1),
        "POSTHOUSE_DISPATCH_ADDRESS": address(stack.grpc_port + 2),
        "POSTHOUSE_WATCH_STREAMS": "20000",
        "RATE_LIMIT_ENABLED": "false",
        "POSTHOUSE_LOG_LEVEL": "warning",
    }
    process = _spawn("gateway", settings, folder / f"gateway-{number}.log", ends)

    def ready() -> bool:
        with urllib.request.urlopen(f"http://{host}:{port}/ready", timeout=5):
            return True

    _await(ready, "a gateway")
    return process, host, port


def _conversation(
    stack: BenchStack, folder: Path, number: int, ends: contextlib.ExitStack
) -> tuple[Process, str, int]:
    """Start one more conversation process, on a loopback address of its own."""
    host, port = f"127.0.0.{number + 1}", free_ports(6)
    settings = {
        "DATABASE_URL": stack.state.database_url,
        "NATS_URL": stack.state.nats_url,
        "POSTHOUSE_HOST": host,
        "POSTHOUSE_GRPC_PORT": str(port),
        "POSTHOUSE_WATCH_STREAMS": "20000",
        "RATE_LIMIT_ENABLED": "false",
        "POSTHOUSE_LOG_LEVEL": "warning",
    }
    process = _spawn("conversation", settings, folder / f"conversation-{number}.log", ends)

    def ready() -> bool:
        with socket.create_connection((host, port + 1), timeout=5):
            return True

    _await(ready, "a conversation process")
    return process, host, port + 1


def _spawn(command: str, settings: dict[str, str], log: Path, ends: contextlib.ExitStack) -> Process:
    full = [sys.executable, "-P", "-m", "cli.main", command]
    process = spawn(full, log=log, env=environment(settings), cwd=log.parent)
    ends.callback(process.wait)
    ends.callback(process.terminate)
    return process


def _await(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.2)
    raise StartFailedError(f"{what} does not start")


def _clients(
    module: str, host: str, port: int, idle: int, eager: int, ends: contextlib.ExitStack
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, host, str(port), str(idle), str(eager)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own
    ends.callback(process.wait)
    ends.callback(process.terminate)
    return process


def _line(process: "subprocess.Popen[bytes]") -> bytes:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise StartFailedError("the watchers have ended")
    return line


def _send(port: int) -> None:
    body = json.dumps({"from": "+15551234567", "to": "+15559876543", "body": "Hello"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/messages/send", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - our own stack
        pass


def _memory(process: Process) -> int:
    return sum(
        member.memory_info().rss
        for member in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True))
    )


if __name__ == "__main__":
    main()
