"""Verifies the sample key over gRPC: the shortest program that uses the generated messages.

What it needs is in the environment, or in the file that `keystead up` keeps for it (``DATA/env``).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import json_format

from keystead.gen.v1.keys_pb2 import Key
from keystead.gen.v1.verification_pb2 import VerifyKeyRequest, VerifyKeyResponse

METHOD = "/keystead.v1.VerificationService/VerifyKey"
TIMEOUT_S = 10.0
NAMES = ("KEYSTEAD_GRPC_TARGET", "KEYSTEAD_MANAGEMENT_KEY", "KEYSTEAD_SAMPLE_KEY")


class MissingSettingError(Exception):
    """Raised when something is neither in the environment nor in the file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to call, as whom, and the secret to verify; shown nowhere."""

    address: str
    management_key: str
    sample_key: str


def read_env_file(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines as a shell would, ``export`` or not; nothing when there is no file."""
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def find_settings(environment: Mapping[str, str], path: Path) -> Settings:
    """Take each setting from ``environment``, else from the file at ``path``."""
    known = {**read_env_file(path), **environment}
    missing = [name for name in NAMES if not known.get(name)]
    if missing:
        raise MissingSettingError(
            f"{', '.join(missing)}: neither in the environment nor in {path}; is `make up` running?"
        )
    return Settings(*(known[name] for name in NAMES))


def request_for(sample_key: str) -> VerifyKeyRequest:
    """Ask about ``sample_key`` in the environment that its second part names."""
    test = sample_key.split("_")[1:2] == ["test"]
    return VerifyKeyRequest(key=sample_key, environment=Key.TEST if test else Key.LIVE)


def verify(settings: Settings) -> VerifyKeyResponse:
    """Call ``VerifyKey``."""
    with grpc.insecure_channel(settings.address) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=VerifyKeyRequest.SerializeToString,
            response_deserializer=VerifyKeyResponse.FromString,
        )
        response: VerifyKeyResponse = call(
            request_for(settings.sample_key),
            metadata=(("authorization", f"Bearer {settings.management_key}"),),
            timeout=TIMEOUT_S,
        )
        return response


def main() -> int:
    """Print the verdict as JSON; exit 1 when there is none, or when it is a no."""
    parser = argparse.ArgumentParser(description="Verify the sample key over gRPC.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where `keystead up` keeps its data")
    folder: Path = parser.parse_args().data_dir
    try:
        response = verify(find_settings(os.environ, folder / "env"))
    except MissingSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except grpc.RpcError as error:
        sys.stderr.write(f"{error.code().name}: {error.details()}\n")
        return 1
    print(json_format.MessageToJson(response, always_print_fields_with_no_presence=True, indent=2))
    return 0 if response.valid else 1


if __name__ == "__main__":
    sys.exit(main())
