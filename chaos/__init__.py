"""What Posthouse promises, tried on real processes that are killed, stopped, robbed and lied to."""

import os

# Stacks are forked from a process that runs gRPC's threads, as in the tests. Read when gRPC is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
