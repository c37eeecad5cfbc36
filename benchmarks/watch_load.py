"""Watchers over HTTP: idle connections to one gateway, some of which see everything.

`python -m benchmarks.watch_load HOST PORT IDLE EAGER` prints a line of JSON when all are connected, and one
for the event `accepted`, when all that see everything have got it.
"""

import json
import selectors
import socket
import sys
import time
import uuid

_CONNECTING = 200
_WANTED = b"event: accepted"


def main(host: str, port: int, idle: int, eager: int) -> None:
    """Connect, report, wait for the event, report."""
    selector = selectors.DefaultSelector()
    total = idle + eager
    begun = connected = heard = 0
    began = time.time()
    told = False
    while heard < eager or not told:
        while begun < total and begun - connected < _CONNECTING:
            query = "" if begun < eager else f"?conversation_id={uuid.uuid4()}"
            connection = socket.create_connection((host, port))
            request = f"GET /api/v1/events{query} HTTP/1.1\r\nHost: x\r\n\r\n"
            connection.sendall(request.encode())
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, [b"", begun < eager])
            begun += 1
        for key, _ in selector.select(1):
            data = key.fileobj.recv(65536)  # type: ignore[union-attr]
            if not data:
                raise SystemExit("a stream has ended")
            state = key.data
            if state[0] is not None:
                state[0] += data
                if b": connected" in state[0]:
                    if not state[0].startswith(b"HTTP/1.1 200"):
                        raise SystemExit(state[0][:200].decode())
                    state[0], connected = None, connected + 1
            elif state[1] and _WANTED in data:
                state[1], heard = False, heard + 1
        if connected == total and not told:
            told = True
            print(json.dumps({"connected": total, "seconds": time.time() - began}), flush=True)
    print(json.dumps({"heard": heard, "time": time.time()}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
