"""MessageService: everything that comes in, sends and webhooks alike."""
