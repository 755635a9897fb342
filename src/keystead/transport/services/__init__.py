"""One handler per method: decode, call, encode. gRPC and Connect are served by the same ones."""
