"""TLS both ways for sinks, from certificates and keys that never touch a disk.

OpenSSL's bindings read a chain and its key from files alone. A file in memory (memfd) is one, and ends with its block.
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from keystead.sinks.model import HttpDestination

_CONTEXTS_MAX = 256


class CertificateContexts:
    """Makes what connections are secured with, and remembers it, for reading a machine's authorities takes a while."""

    def __init__(self) -> None:
        """Begin with none."""
        self._made: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()

    def of(self, destination: HttpDestination, client_key: str) -> ssl.SSLContext:
        """Return the context of a destination; raise ``ValueError`` when something in it cannot be used."""
        parts = (destination.authorities, destination.client_certificate, client_key)
        name = blake2b("\0".join(parts).encode()).digest()
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = _context(*parts)
            if len(self._made) > _CONTEXTS_MAX:
                self._made.popitem(last=False)
        self._made.move_to_end(name)
        return found

    def wrong(self, destination: HttpDestination, client_key: str) -> tuple[str, str] | None:
        """Return which field cannot be used, and why; None when all can."""
        try:
            _context(destination.authorities, "", "")
        except ValueError:
            return "authorities", "must be certificates in PEM"
        try:
            _context("", destination.client_certificate, client_key)
        except ValueError:
            return "client_certificate", "must be a chain in PEM that client_key, in PEM and not encrypted, belongs to"
        return None


def _context(authorities: str, certificate: str, key: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authorities or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if authorities and not context.get_ca_certs():
            message = "no certificate among the authorities"
            raise ValueError(message)
        if certificate:
            with _in_memory(certificate) as chain_file, _in_memory(key) as key_file:
                # A key that is encrypted would have OpenSSL ask a terminal.
                context.load_cert_chain(chain_file, key_file, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        message = "the certificate, the key or the authorities cannot be read"
        raise ValueError(message) from error
    return context


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
