"""Plumbing with no messaging domain in it: settings, errors, servers, bus, telemetry."""
