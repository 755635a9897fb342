"""How calls come in and answers go out: gRPC on two engines and Connect over HTTP, from one description of each method.

The generic part (``calls``, ``errors``, ``grpc``, ``http``) knows descriptors and no service; ``services`` holds the
handlers.
"""
