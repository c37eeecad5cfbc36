"""Providers: one file each, with both halves of it: send, and verify and parse its webhooks."""
