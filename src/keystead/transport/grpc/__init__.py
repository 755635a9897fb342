"""gRPC on either of two engines, which a caller cannot tell apart but by their speed."""
