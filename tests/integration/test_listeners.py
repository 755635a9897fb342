"""Where a server listens: with TLS, off loopback only when told so, and with an error that names the flag otherwise."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.clients import GrpcClient, JsonClient, client_for
from tests.servers import NotStartedError, ServerFarm


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keystead.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@pytest.fixture
def taken() -> Iterator[int]:
    """Lend a port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def test_tls_is_on_both_listeners(servers: ServerFarm, certificate: tuple[Path, Path]) -> None:
    """With a certificate both gRPC and HTTP are encrypted, verify for a client that trusts it, and answer nobody in
    the clear.
    """
    server = servers.start(tls_cert=certificate[0], tls_key=certificate[1])
    assert server.http.startswith("https://")
    trusted = certificate[0].read_bytes()
    context = ssl.create_default_context(cadata=trusted.decode())
    key = server.told["sample_key"]
    async with (
        GrpcClient(
            server.grpc, server.management_key, credentials=grpc.ssl_channel_credentials(root_certificates=trusted)
        ) as over_grpc,
        JsonClient(server.http, server.management_key, verify=context) as over_http,
        GrpcClient(server.grpc, server.management_key) as clear_grpc,
        JsonClient(server.http.replace("https", "http"), server.management_key) as clear_http,
        JsonClient(server.http, server.management_key) as untrusting,
    ):
        assert await over_grpc.verify(key) == "VALID"
        assert await over_http.verify(key) == "VALID"
        for stranger in (clear_grpc, clear_http, untrusting):
            assert (await stranger.call("ListKeys")).status == "UNREACHABLE"


@pytest.mark.parametrize("flag", ("grpc", "http"))
def test_nothing_is_served_in_the_clear_to_others_by_accident(servers: ServerFarm, flag: str) -> None:
    """A listener off loopback needs TLS or an explicit --insecure, and the refusal says so."""
    told: dict[str, Any] = {flag: "0.0.0.0:0"}
    with pytest.raises(NotStartedError, match=rf"--{flag}.*--insecure") as refused:
        servers.add(**told).start()
    assert refused.value.code == "bad_setting"


async def test_insecure_is_obeyed(servers: ServerFarm) -> None:
    """--insecure allows it."""
    server = servers.start(http="0.0.0.0:0", insecure=True)
    server.told["http"] = server.http.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- see above
    async with client_for(server, "json") as client:
        assert await client.verify(server.told["sample_key"]) == "VALID"


@pytest.mark.parametrize("flag", ("grpc", "http"))
@pytest.mark.parametrize("engine", ("native", "grpcio"))
def test_a_taken_port_names_its_flag(servers: ServerFarm, taken: int, flag: str, engine: str) -> None:
    """Whoever starts a second server on a port reads which flag to change."""
    told: dict[str, Any] = {"grpc_engine": engine, flag: f"127.0.0.1:{taken}"}
    with pytest.raises(NotStartedError, match=rf"--{flag}\b.*{taken}") as refused:
        servers.add(**told).start()
    assert refused.value.code == "address_unusable"


async def test_a_data_directory_has_one_server(servers: ServerFarm) -> None:
    """A second server on the same data directory is refused, the first does not notice, and its end sets the directory
    free, also when it was killed.
    """
    first = servers.start()
    second = servers.add(data_dir=first.data_dir)
    with pytest.raises(NotStartedError, match="--data-dir") as refused:
        second.start()
    assert refused.value.code == "data_directory_locked"
    async with client_for(first) as client:
        assert await client.verify(first.told["sample_key"]) == "VALID"
    first.kill()
    second.start()


@pytest.mark.parametrize("wrong", ("cert", "key", "both"))
def test_a_bad_certificate_keeps_a_server_from_starting(
    servers: ServerFarm, certificate: tuple[Path, Path], wrong: str
) -> None:
    """A certificate and a key that cannot be used are an error that names them, never a listener without TLS."""
    files = {"cert": certificate[0], "key": certificate[1]}
    for name in files if wrong == "both" else (wrong,):
        files[name].write_text("not a PEM file")
    with pytest.raises(NotStartedError, match=r"TLS with|tls_cert") as refused:
        servers.start(tls_cert=files["cert"], tls_key=files["key"])
    assert refused.value.code in {"address_unusable", "bad_setting"}
