"""The real PostgreSQL and NATS servers that `posthouse up` and the tests bring along."""
