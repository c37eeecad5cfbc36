"""The tests of Posthouse."""

import os

# Servers are forked from processes that run gRPC's threads; its fork handlers have crashed children at times
# before they became the server. Read when gRPC is loaded, so it is set before anything loads it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
