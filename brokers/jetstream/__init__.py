"""A Dramatiq broker on NATS JetStream; see the README beside this package."""
