"""The HTTP gateway: REST, webhooks, live events, docs and health in front of the gRPC services."""
