"""The gRPC services of Posthouse and what they share."""
