"""The Connect protocol and gRPC-Web over HTTP/1.1, and the few plain paths beside them."""
