"""Certificates of the tests' own: an authority, and what it has issued."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=2)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, both PEM."""

    certificate: str
    key: str
    made: x509.Certificate
    private: ec.EllipticCurvePrivateKey


def authority(name: str = "An Authority") -> Identity:
    """Make one that issues certificates."""
    return _made(name, None, authority_itself=True)


def issued(by: Identity, name: str, *, host: str = "localhost") -> Identity:
    """Make a certificate for a client called ``name``, or for a service at ``host`` and this machine's address."""
    return _made(name, by, authority_itself=False, host=host)


def _made(name: str, by: Identity | None, *, authority_itself: bool, host: str = "localhost") -> Identity:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.made.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=authority_itself, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
    )
    made = builder.sign(private if by is None else by.private, SHA256())
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Identity(made.public_bytes(Encoding.PEM).decode(), key, made, private)
