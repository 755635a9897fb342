"""The OpenAPI document says what the proto says."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from grpc_tools import protoc
from openapi_spec_validator import validate

from tools import openapi
from tools.openapi_schema import UnmappedTypeError
from tools.proto import PROTO

HEAD = """
syntax = "proto3";
package keystead.sample.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "keystead/v1/options.proto";
"""

SAMPLE = """
// Keeps doors.
service DoorService {
  // Opens a door. Nobody hears it.
  rpc OpenDoor(OpenDoorRequest) returns (OpenDoorResponse) {
    option (keystead.v1.access) = {scope: "write:doors" mutates: true operator: true};
  }
  // Looks at a door.
  rpc LookAtDoor(OpenDoorRequest) returns (Door) {
    option (keystead.v1.access) = {operator_only: true};
  }
  // Follows a door.
  rpc WatchDoor(OpenDoorRequest) returns (stream Door) {}
}
// A door.
message Door {
  // How a door stands.
  enum State {
    // Not given.
    STATE_UNSPECIFIED = 0;
    // Lets through.
    OPEN = 1;
  }
  // Where it is.
  string room_name = 1;
  State state = 2;
  int64 passages = 3;
  uint32 width_mm = 4;
  map<string, int64> counts = 5;
  repeated Door next = 6;
  google.protobuf.Timestamp opened_at = 7;
  google.protobuf.Duration open_for = 8;
  google.protobuf.Struct notes = 9;
  oneof lock {
    string code = 10;
    bytes plan = 11;
  }
  optional bool squeaks = 12;
}
message OpenDoorRequest {
  Door door = 1;
  google.protobuf.FieldMask update_mask = 2;
  string password = 3 [debug_redact = true];
}
message OpenDoorResponse {
  string token = 1 [debug_redact = true];
}
"""

Document = dict[str, Any]
Compile = Callable[[str], Document]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile the body of a proto file into the document of its services."""

    def compile_body(body: str) -> Document:
        (tmp_path / "sample.proto").write_text(HEAD + body, encoding="utf-8")
        made = tmp_path / "sample.binpb"
        well_known = resources.files("grpc_tools") / "_proto"
        paths = [f"-I{tmp_path}", f"-I{PROTO}", f"-I{well_known}"]
        options = ["--include_source_info", "--include_imports", f"--descriptor_set_out={made}"]
        assert protoc.main(["protoc", *paths, *options, "sample.proto"]) == 0
        return openapi.document(made.read_bytes(), version="1.2.3")

    return compile_body


@pytest.fixture
def document(compiled: Compile) -> Document:
    """Lend the document of the sample."""
    return compiled(SAMPLE)


def schema(document: Document, name: str) -> Document:
    """Return the schema of one of the sample's messages or enums."""
    found: Document = document["components"]["schemas"][f"keystead.sample.v1.{name}"]
    return found


def test_the_document_is_openapi(document: Document) -> None:
    """Tools that read OpenAPI 3.1 can read ours."""
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"


def test_each_unary_method_is_a_post_and_no_other(document: Document) -> None:
    """Only what plain HTTP can call is offered."""
    assert sorted(document["paths"]) == [
        "/keystead.sample.v1.DoorService/LookAtDoor",
        "/keystead.sample.v1.DoorService/OpenDoor",
    ]


def test_an_operation_says_what_its_caller_must_hold(document: Document) -> None:
    """Scope, operator's rights and the retry header come from the method's own option."""
    opens = document["paths"]["/keystead.sample.v1.DoorService/OpenDoor"]["post"]
    looks = document["paths"]["/keystead.sample.v1.DoorService/LookAtDoor"]["post"]
    assert (opens["x-required-scope"], opens["x-operator"]) == ("write:doors", "allowed")
    assert opens["parameters"] == [{"$ref": "#/components/parameters/IdempotencyKey"}]
    assert looks["x-operator"] == "only"
    assert "x-required-scope" not in looks
    assert "parameters" not in looks


def test_comments_become_descriptions(document: Document) -> None:
    """Everything is said once, in the proto."""
    opens = document["paths"]["/keystead.sample.v1.DoorService/OpenDoor"]["post"]
    assert (opens["summary"], opens["description"]) == ("Opens a door", "Opens a door. Nobody hears it.")
    assert document["tags"] == [{"name": "DoorService", "description": "Keeps doors."}]
    assert schema(document, "Door")["properties"]["roomName"] == {"type": "string", "description": "Where it is."}


@pytest.mark.parametrize(
    ("name", "kind", "form"),
    (
        ("passages", "string", "int64"),
        ("openedAt", "string", "date-time"),
        ("openFor", "string", None),
        ("widthMm", "integer", None),
        ("notes", "object", None),
        ("squeaks", "boolean", None),
        ("plan", "string", None),
    ),
)
def test_fields_look_as_protobufs_json_does(document: Document, name: str, kind: str, form: str | None) -> None:
    """A schema accepts what the server prints."""
    found = schema(document, "Door")["properties"][name]
    assert (found["type"], found.get("format")) == (kind, form)


def test_maps_lists_and_masks_keep_their_shape(document: Document) -> None:
    """A map is an object, a list an array that may hold its own kind, a mask one string."""
    door = schema(document, "Door")["properties"]
    assert door["counts"] == {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    }
    assert door["next"] == {"type": "array", "items": {"$ref": "#/components/schemas/keystead.sample.v1.Door"}}
    assert schema(document, "OpenDoorRequest")["properties"]["updateMask"]["type"] == "string"


def test_enums_allow_every_name_and_explain_those_worth_writing(document: Document) -> None:
    """The zero value is printed for what is not given, so it is allowed; nobody needs to write it."""
    state = schema(document, "Door.State")
    assert state["enum"] == ["STATE_UNSPECIFIED", "OPEN"]
    assert state["description"] == "How a door stands.\n- `OPEN`: Lets through."


def test_secrets_are_flagged_with_their_direction(document: Document) -> None:
    """A page that shows the document hides secrets, and no example holds one."""
    asked = schema(document, "OpenDoorRequest")["properties"]["password"]
    answered = schema(document, "OpenDoorResponse")["properties"]["token"]
    assert asked == {"type": "string", "format": "password", "writeOnly": True}
    assert answered == {"type": "string", "format": "password", "readOnly": True}


def test_requests_refuse_what_the_server_refuses(document: Document) -> None:
    """An unknown field of a request is an error; a reply may grow."""
    assert schema(document, "OpenDoorRequest")["additionalProperties"] is False
    assert "additionalProperties" not in schema(document, "OpenDoorResponse")


def test_fields_that_exclude_one_another_say_so(document: Document) -> None:
    """A oneof is told in words; a lone optional field is none."""
    assert schema(document, "Door")["description"] == "A door. Only one of `code`, `plan` may be given."


def test_a_type_without_a_known_mapping_is_refused(compiled: Compile) -> None:
    """A new kind of field is mapped on purpose, never guessed."""
    body = """
    service S { rpc Do(DoRequest) returns (DoRequest) {} }
    message DoRequest { google.protobuf.Any what = 1; }
    """
    with pytest.raises(UnmappedTypeError, match=r"DoRequest\.what"):
        compiled(body)


def test_the_committed_document_is_openapi() -> None:
    """What the service serves is valid as a whole."""
    document: Document = json.loads(resources.files("keystead.gen").joinpath("openapi.json").read_text("utf-8"))
    validate(document)
    assert "/keystead.v1.VerificationService/VerifyKey" in document["paths"]
