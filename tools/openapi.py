"""The OpenAPI 3.1 document of the Connect API, made from the proto.

Its source is a descriptor set with comments (``protoc --include_source_info --include_imports``), so that the proto
stays the only place where anything is said. Every unary method becomes one POST, as the Connect protocol has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tools.openapi_schema import Json, Schemas

PACKAGE = "keystead."
ACCESS = "keystead.v1.access"

_ERROR: Json = {
    "type": "object",
    "description": "An error as the Connect protocol writes it.",
    "required": ["code"],
    "properties": {
        "code": {
            "type": "string",
            "description": "The gRPC status in lower case. Branch on the reason in `details` where there is one.",
            "enum": [
                "canceled",
                "unknown",
                "invalid_argument",
                "deadline_exceeded",
                "not_found",
                "already_exists",
                "permission_denied",
                "resource_exhausted",
                "failed_precondition",
                "aborted",
                "out_of_range",
                "unimplemented",
                "internal",
                "unavailable",
                "data_loss",
                "unauthenticated",
            ],
        },
        "message": {"type": "string", "description": "For people: what to change."},
        "details": {
            "type": "array",
            "description": "`google.rpc.ErrorInfo` with the stable reason, `BadRequest`, `RetryInfo`.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "The message's full name."},
                    "value": {"type": "string", "description": "The message, unpadded base64."},
                    "debug": {"description": "The message as JSON."},
                },
            },
        },
    },
}

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes a retry safe, like the field `idempotencyKey`; give one of them.",
    "schema": {"type": "string", "maxLength": 128},
}

_DESCRIPTION = (
    "API keys for your customers: issue, scope, verify, rotate, revoke and audit them. "
    "Every method is a POST with a JSON body (the Connect protocol); gRPC and gRPC-Web serve the same methods. "
    "Methods that stream are not here: see the reference, docs/reference/api.md."
)


@dataclass(frozen=True, slots=True)
class Access:
    """What the proto's access option says of a method."""

    scope: str
    mutates: bool
    operator: str


class Contract:
    """A descriptor set, read into a pool of its own so that it meets no generated code."""

    def __init__(self, descriptor_set: bytes) -> None:
        """Load ``descriptor_set``, in which imports come before their importers."""
        self._files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
        self._pool = descriptor_pool.DescriptorPool()
        for file in self._files:
            self._pool.Add(file)

    def services(self) -> list[ServiceDescriptor]:
        """Return our services, by name."""
        names = [f"{file.package}.{service.name}" for file in self._files for service in file.service]
        return [self._pool.FindServiceByName(name) for name in sorted(names) if name.startswith(PACKAGE)]

    def comments(self) -> dict[str, str]:
        """Return the leading comments by the full name of what they are about."""
        ours = [file for file in self._files if file.package.startswith(PACKAGE)]
        return {name: text for file in ours for name, text in file_comments(file)}

    def access(self, method: MethodDescriptor) -> Access:
        """Read the access option of ``method``."""
        options_type: Any = message_factory.GetMessageClass(
            self._pool.FindMessageTypeByName("google.protobuf.MethodOptions")
        )
        extension = self._pool.FindExtensionByName(ACCESS)
        said = options_type.FromString(method.GetOptions().SerializeToString()).Extensions[extension]
        operator = "only" if said.operator_only else "allowed" if said.operator else ""
        return Access(scope=said.scope, mutates=said.mutates, operator=operator)


def file_comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield full names and leading comments, the blank that follows ``//`` taken off."""
    for location in file.source_code_info.location:
        name = name_at(file, location.path)
        if name and location.leading_comments:
            yield f"{file.package}.{name}", location.leading_comments.strip().replace("\n ", "\n")


def name_at(file: descriptor_pb2.FileDescriptorProto, path: Sequence[int]) -> str:
    """Follow a source path (pairs of field number and index; see descriptor.proto) and join the names on the way.

    Empty for what has no name of its own: an option, the package statement.
    """
    here: Any = file
    names: list[str] = []
    for number, index in zip(path[::2], path[1::2], strict=False):
        step = here.DESCRIPTOR.fields_by_number.get(number)
        if step is None or not step.is_repeated or step.message_type is None:
            return ""
        here = getattr(here, step.name)[index]
        names.append(getattr(here, "name", ""))
    return "" if len(path) % 2 else ".".join(names)


def first_sentence(text: str) -> str:
    """Cut ``text`` after its first sentence, and take the full stop off."""
    return text.replace("\n", " ").partition(". ")[0].rstrip(".")


def operation(method: MethodDescriptor, access: Access, schemas: Schemas) -> Json:
    """Describe one method."""
    service = method.containing_service
    text = schemas.comments.get(method.full_name, "")
    made: Json = {
        "operationId": f"{service.name}_{method.name}",
        "tags": [service.name],
        "summary": first_sentence(text),
        "description": text,
        "requestBody": {"required": True, "content": json_content(schemas.reference(method.input_type))},
        "responses": {
            "200": {"description": "Done.", "content": json_content(schemas.reference(method.output_type))},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if access.mutates:
        made["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]
    if access.scope:
        made["x-required-scope"] = access.scope
    if access.operator:
        made["x-operator"] = access.operator
    return made


def json_content(schema: Json) -> Json:
    """Describe a JSON body."""
    return {"application/json": {"schema": schema}}


def is_unary(method: MethodDescriptor) -> bool:
    """Say whether a method takes and returns one message; only those are plain POSTs."""
    return not (method.client_streaming or method.server_streaming)


def components(schemas: Schemas) -> Json:
    """Gather what the operations refer to."""
    return {
        "schemas": {**dict(sorted(schemas.made.items())), "Error": _ERROR},
        "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
        "responses": {
            "Error": {
                "description": "Refused or failed.",
                "content": json_content({"$ref": "#/components/schemas/Error"}),
            }
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A management key, or an operator key."}
        },
    }


def document(descriptor_set: bytes, *, version: str) -> Json:
    """Make the document of every unary method in ``descriptor_set``."""
    contract = Contract(descriptor_set)
    schemas = Schemas(contract.comments())
    services = contract.services()
    methods = [method for service in services for method in service.methods if is_unary(method)]
    paths = {
        f"/{method.containing_service.full_name}/{method.name}": {
            "post": operation(method, contract.access(method), schemas)
        }
        for method in methods
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Keystead",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": item.name, "description": schemas.comments.get(item.full_name, "")} for item in services],
        "paths": paths,
        "components": components(schemas),
    }
