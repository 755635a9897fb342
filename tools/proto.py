"""Generates src/keystead/gen from proto/: the messages, their stubs and the OpenAPI document.

protoc writes Python imports after the path of the .proto file (``from keystead.v1 import keys_pb2``), while the modules
live in ``keystead.gen``, out of the way of the hand-written packages. So the module names, and nothing else, are moved:
proto package ``keystead.v1`` becomes Python package ``keystead.gen.v1``. What is in the descriptors stays as it was.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import re
import shutil
import sys
import tempfile
import tomllib
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

from tools import openapi

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GEN = ROOT / "src" / "keystead" / "gen"
PACKAGE_DOCSTRING = '"""Generated from proto/ by `make proto`; never edited."""\n'
_MODULE = re.compile(r"\bkeystead\.((?:\w+\.)*v\d+)(?= import|\.\w+_pb2)")


class ProtocError(Exception):
    """Raised when protoc refuses the proto files; it has said why on stderr."""


def proto_files() -> list[str]:
    """Return the proto files as protoc names them, sorted."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def run_protoc(*options: str) -> None:
    """Run protoc over every proto file."""
    well_known = resources.files("grpc_tools") / "_proto"
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *options, *proto_files()]) != 0:
        raise ProtocError


def move_modules(text: str) -> str:
    """Put the module names in generated code into ``keystead.gen``."""
    return _MODULE.sub(r"keystead.gen.\1", text)


def write_messages(gen: Path, scratch: Path) -> None:
    """Write the messages and their stubs into ``gen``."""
    plugin = Path(sys.executable).parent / "protoc-gen-mypy"
    run_protoc(f"--python_out={scratch}", f"--plugin=protoc-gen-mypy={plugin}", f"--mypy_out=quiet:{scratch}")
    for path in sorted((scratch / "keystead").rglob("*_pb2.py*")):
        target = gen / path.relative_to(scratch / "keystead")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(move_modules(path.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in [gen, *(path for path in gen.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_DOCSTRING, encoding="utf-8")


def write_openapi(gen: Path, scratch: Path) -> None:
    """Write the OpenAPI document into ``gen``."""
    descriptors = scratch / "descriptors.binpb"
    run_protoc("--include_source_info", "--include_imports", f"--descriptor_set_out={descriptors}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    made = openapi.document(descriptors.read_bytes(), version=version)
    (gen / "openapi.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def generate(gen: Path) -> None:
    """Write everything that is made from proto/ into the empty folder ``gen``."""
    with tempfile.TemporaryDirectory() as scratch:
        write_messages(gen, Path(scratch))
        write_openapi(gen, Path(scratch))


def files_under(folder: Path) -> set[Path]:
    """Return the generated files under ``folder``, relative to it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts}


def stale_files(fresh: Path, committed: Path) -> list[Path]:
    """Return what differs between the two folders, sorted."""
    both = files_under(fresh) & files_under(committed)
    differing = {path for path in both if not filecmp.cmp(fresh / path, committed / path, shallow=False)}
    return sorted(differing | (files_under(fresh) ^ files_under(committed)))


def replace(fresh: Path, committed: Path) -> None:
    """Make ``committed`` the same as ``fresh``, touching only what differs."""
    for path in stale_files(fresh, committed):
        if (fresh / path).exists():
            (committed / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, committed / path)
        else:
            (committed / path).unlink()


def main() -> int:
    """Generate, or with ``--check`` say what is stale."""
    parser = argparse.ArgumentParser(description="Generate src/keystead/gen from proto/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        if not check:
            replace(fresh, GEN)
            return 0
        stale = stale_files(fresh, GEN)
    for path in stale:
        sys.stderr.write(f"{GEN.relative_to(ROOT) / path} is stale; run `make proto`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
