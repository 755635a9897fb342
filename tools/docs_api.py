"""The pages of the API and of its scopes: the proto with its comments, and who may call what."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from keystead.transport.calls import Access
from keystead.transport.contract import service_methods
from tools.docs_markdown import anchor, code, table
from tools.docs_texts import ALSO_NEEDED
from tools.openapi import PACKAGE, Contract, first_sentence
from tools.openapi_schema import map_entry
from tools.proto import run_protoc

_API_OPENING = """# The API

The same methods over gRPC, over Connect and gRPC-Web, and as plain JSON: `POST /<service>/<method>`, with
`authorization: Bearer <management key>`. In JSON, names are `lowerCamelCase`, times RFC 3339, durations seconds as
text (`"86400s"`), field masks one string (`"name,expiresAt"`); every field without presence is printed, and a field
that the contract does not know is refused. A mutation also takes its idempotency key as the header
`Idempotency-Key`.

A method that streams its replies is called over HTTP with `content-type: application/connect+json` (or
`application/connect+proto`, or gRPC-Web's): every message is a frame of one byte of flags, four of its length, the most
significant first, and the message. The last frame, with flag 2, says how the stream ended; an `error` in it is as
everywhere. A server carries 100 streams at once and refuses more with `OVERLOADED`; it looks at the caller's key twice
a second, ends the stream once that is revoked, and ends all with `UNAVAILABLE` when it stops. A client that takes no
message for 30 seconds is left. A method that streams both ways is for gRPC alone; on the
[native engine](../explanation/grpc-engines.md) it does not know its caller's address, so keys with `allowed_ips` are
refused there.

What fails is in [errors](errors.md), who needs which scope in [scopes](scopes.md). The running server has this page
as OpenAPI at `/openapi.json`, with a page to try it at `/docs`.

"""
_SCOPES_OPENING = """# Scopes of management keys

A `MANAGEMENT` key calls Keystead's own API within its scopes, its workspace and its environment (`LIVE`, `TEST`, or
`ALL` for both). An `OPERATOR` key, made by `keystead bootstrap` alone, calls `WorkspaceService` and nothing else.
`CUSTOMER` and `SERVICE` keys are what is verified here; they call nothing here.

A scope is `action:resource`; a granted one may have `*` for either: `read:*`, `*:keys`, `*:*`. The right is asked
before anything is looked up, so a refusal tells nothing of what exists.

"""
_SCOPES_CLOSING = """
## Beyond the method's scope

- A call that makes, changes or revokes a `MANAGEMENT` key, or returns a secret of one, needs every scope that key
  holds and its environment as well: nobody gains a right through somebody else's credential (P8).
- A management key of one environment neither sees nor makes anything of the other. Owners belong to the workspace,
  so it does see and change those.
- `OPERATOR` keys are made and changed by nobody over the API.

Why it is so: [tenants and rights](../explanation/tenants-and-rights.md). The scopes of your own customers' keys are
yours to name; see [how to create and scope keys](../how-to/create-and-scope-keys.md).
"""


@cache
def contract() -> Contract:
    """Read the proto files, comments included."""
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch) / "descriptors.binpb"
        run_protoc("--include_source_info", "--include_imports", f"--descriptor_set_out={descriptors}")
        return Contract(descriptors.read_bytes())


@cache
def _comments() -> dict[str, str]:
    return contract().comments()


@cache
def _access() -> dict[str, Access]:
    """Return what the served methods demand, by full name; what the proto has and no server serves is an error."""
    return {f"{method.service}.{method.name}": method.access for method in service_methods()}


def page() -> str:
    """Write the page of the API."""
    services = contract().services()
    methods = [method for service in services for method in service.methods]
    contents = [
        (f"[{code(method.name)}](#{anchor(method.name)})", code(service.name), first_sentence(_said(method.full_name)))
        for service in services
        for method in service.methods
    ]
    shared = _shared_types(methods)
    parts = [_API_OPENING, table(("method", "service", "what it does"), contents)]
    parts += [_service(service) for service in services]
    parts += ["\n## Shared messages\n", *[_message(kind) for kind in shared if isinstance(kind, Descriptor)]]
    parts += ["\n## Enums\n", *[_enum(kind) for kind in shared if isinstance(kind, EnumDescriptor)]]
    return "".join(parts)


def scopes_page() -> str:
    """Write the page of scopes."""
    methods = [method for service in contract().services() for method in service.methods]
    rows = [
        (code(scope), ", ".join([_link(method) for method in methods if _access()[method.full_name].scope == scope]))
        for scope in sorted({_access()[method.full_name].scope for method in methods} - {""})
    ]
    operator = [_link(method) for method in methods if _access()[method.full_name].operator]
    also = [(f"[{code(name)}](api.md#{anchor(name)})", text) for name, text in ALSO_NEEDED.items()]
    return (
        _SCOPES_OPENING
        + table(("scope", "what it allows"), rows)
        + f"\nOperator keys may call {', '.join(operator)}.\n\n"
        + table(("method", "needs as well"), also)
        + _SCOPES_CLOSING
    )


def _link(method: MethodDescriptor) -> str:
    return f"[{code(method.name)}](api.md#{anchor(method.name)})"


def _said(name: str) -> str:
    return _comments().get(name, "").replace("\n", " ")


def _service(service: ServiceDescriptor) -> str:
    opening = f"\n## {service.name}\n\n{_said(service.full_name)}\n"
    return opening + "".join([_method(method) for method in service.methods])


def _method(method: MethodDescriptor) -> str:
    access = _access()[method.full_name]
    lines = [f"\n### {method.name}\n", f"{_said(method.full_name)}\n", f"{_callers(method.name, access)}\n"]
    if access.mutates:
        needs = (
            "of at least 128 random bits, since the reply holds a secret" if access.returns_secret else "of any kind"
        )
        lines.append(f"Takes an idempotency key {needs}.\n")
    lines.append(_way(method))
    return "\n".join(lines) + _fields("Request", method.input_type) + _fields("Response", method.output_type)


def _way(method: MethodDescriptor) -> str:
    """Say what a method is called by."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        return f"`{path}`, over gRPC alone: a stream of requests, answered by a stream of responses.\n"
    return f"`POST {path}`{', answered by a stream of responses' if method.server_streaming else ''}\n"


def _callers(name: str, access: Access) -> str:
    """Say who may call a method."""
    if access.operator_only:
        return "Needs an operator key."
    needed = f"Needs `{access.scope}`" + (f", and {ALSO_NEEDED[name]}" if name in ALSO_NEEDED else "")
    return f"{needed}; operator keys may call it as well." if access.operator else f"{needed}."


def _fields(title: str, message: Descriptor) -> str:
    if not message.fields:
        return f"\n{title}: empty.\n"
    rows = [(code(member.name), _type(member), _said(member.full_name)) for member in message.fields]
    return "\n" + table((title.lower(), "type", "what it is"), rows)


def _message(message: Descriptor) -> str:
    return f"\n### {_short(message)}\n\n{_said(message.full_name)}\n" + _fields("Field", message)


def _enum(enum: EnumDescriptor) -> str:
    rows = [(code(value.name), _said(f"{enum.full_name}.{value.name}")) for value in enum.values if value.number]
    return f"\n### {_short(enum)}\n\n{_said(enum.full_name)}\n\n" + table(("value", "what it means"), rows)


def _type(member: FieldDescriptor) -> str:
    entry = map_entry(member)
    if entry is not None:
        return f"map of {_type(entry.fields_by_name['key'])} to {_type(entry.fields_by_name['value'])}"
    named = member.message_type or member.enum_type
    if named is None:
        text = _scalar(member)
    elif named.full_name.startswith(PACKAGE):
        text = f"[{_short(named)}](#{anchor(_short(named))})"
    else:
        text = named.name
    return f"list of {text}" if member.is_repeated else text


def _scalar(member: FieldDescriptor) -> str:
    names = {
        FieldDescriptor.TYPE_BOOL: "bool",
        FieldDescriptor.TYPE_BYTES: "bytes",
        FieldDescriptor.TYPE_DOUBLE: "double",
        FieldDescriptor.TYPE_INT32: "int32",
        FieldDescriptor.TYPE_INT64: "int64",
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_UINT32: "uint32",
        FieldDescriptor.TYPE_UINT64: "uint64",
    }
    return names[member.type]


def _short(named: Descriptor | EnumDescriptor) -> str:
    """Name a message or enum inside its package: ``Key.State``."""
    return named.full_name.removeprefix(f"{named.file.package}.")


def _shared_types(methods: Iterable[MethodDescriptor]) -> list[Descriptor | EnumDescriptor]:
    """Return the messages and enums that requests and responses refer to, by name."""
    found: dict[str, Descriptor | EnumDescriptor] = {}
    waiting = [kind for method in methods for kind in (method.input_type, method.output_type)]
    while waiting:
        for named in _referred(waiting.pop()):
            if named.full_name not in found:
                found[named.full_name] = named
                if isinstance(named, Descriptor):
                    waiting.append(named)
    return [found[name] for name in sorted(found)]


def _referred(message: Descriptor) -> Iterator[Descriptor | EnumDescriptor]:
    for member in message.fields:
        entry = map_entry(member)
        value = entry.fields_by_name["value"] if entry is not None else member
        named = value.message_type or value.enum_type
        if named is not None and named.full_name.startswith(PACKAGE):
            yield named
