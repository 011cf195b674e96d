"""A compiled CPU engine: graphs written as C."""
