"""One module per server: how it is configured, started, checked and spoken to."""
