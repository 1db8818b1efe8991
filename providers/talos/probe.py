"""In which state is the node at an address? Found out with one TLS handshake and no credentials shown.

A configured node presents a certificate of its cluster's CA and hangs up on a client without one. A node in maintenance
mode presents one of a CA made at boot and lets everybody in. https://www.talos.dev/latest/talos-guides/install/
"""

from __future__ import annotations

import re
import socket
import ssl
import time
import traceback
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from providers.errors import ProtocolError, UserError
from providers.talos.pki import ClientCert
from providers.talos.transport import insecure_context, parse_address

# The client's part of an HTTP/2 connection's start, with empty settings (RFC 9113, 3.4).
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS, _GOAWAY = 4, 7
# A node that is just going down hangs up like one that wants a certificate: only the third time is believed.
_TRIES = 3
_PAUSE_S = 0.1
_ALERTS_OF_MUTUAL_TLS = re.compile(r"CERTIFICATE_REQUIRED|BAD_CERTIFICATE|HANDSHAKE_FAILURE|UNKNOWN_CA")


class Mode(Enum):
    """What answers at a node's address."""

    SILENT = "silent"
    """Nothing: off, unplugged, or before its network is up."""
    REFUSED = "refused"
    """The host is up, the Talos API isn't: booting, or going down."""
    MAINTENANCE = "maintenance"
    """Talos without a machine config."""
    OURS = "ours"
    """Talos, configured with this cluster's CA."""
    FOREIGN = "foreign"
    """Talos, configured with another cluster's CA (or, without credentials, with any)."""


def probe(address: str, cert: ClientCert | None = None, timeout_s: float = 3.0) -> Mode:
    """The state of the node at an address. Safe to run for many nodes at once.

    Args:
        address: `ip` or `ip:port`.
        cert: this cluster's credentials; only the CA is used, nothing is shown to the node.
        timeout_s: seconds for everything.

    Raises:
        ProtocolError: something else than Talos listens there.
        UserError: the address or the CA is none.
    """
    authorities = _authorities(cert)
    end = time.monotonic() + timeout_s
    for _ in range(_TRIES):
        mode = _look(address, authorities, end)
        if mode is not None:
            return mode
        time.sleep(min(_PAUSE_S, max(0.0, end - time.monotonic())))
    return Mode.FOREIGN


def _look(address: str, authorities: list[x509.Certificate], end: float) -> Mode | None:
    """One connection; None when the node hung up after the handshake without a word."""
    try:
        raw = socket.create_connection(parse_address(address), _remaining(end))
    except ConnectionRefusedError:
        return Mode.REFUSED
    except socket.gaierror:
        raise UserError(f"{address}: no such host") from None
    except OSError:
        return Mode.SILENT
    with raw:
        return _speak(address, raw, authorities, end)


def _speak(address: str, raw: socket.socket, authorities: list[x509.Certificate], end: float) -> Mode | None:
    try:
        raw.settimeout(_remaining(end))
        tls = insecure_context().wrap_socket(raw)
    except TimeoutError:
        return Mode.SILENT
    except ssl.SSLError as error:
        return _handshake_mode(address, error)
    except OSError as error:
        _close(error)
        return Mode.REFUSED
    with tls:
        if _issued_by(tls.getpeercert(binary_form=True), authorities):
            return Mode.OURS
        return _admitted(address, tls, end)


def _close(error: OSError) -> None:
    """Close the socket that `wrap_socket` took over and left open, as it does when the peer has just hung up.

    Nobody else knows that socket: it is found in the frames that the error went through.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        left = frame.f_locals.get("self")
        if isinstance(left, ssl.SSLSocket):
            left.close()


def _admitted(address: str, tls: ssl.SSLSocket, end: float) -> Mode | None:
    """Whether the server talks to a client without a certificate."""
    try:
        tls.settimeout(_remaining(end))
        tls.sendall(_HELLO)
        answer = tls.recv(9)
    except TimeoutError:
        return Mode.SILENT
    except ssl.SSLError as error:
        return Mode.FOREIGN if _ALERTS_OF_MUTUAL_TLS.search(str(error).upper().replace(" ", "_")) else None
    except OSError:
        return None
    if not answer:
        return None
    if len(answer) < 4 or answer[3] not in (_SETTINGS, _GOAWAY):
        raise ProtocolError(f"{address}: what listens there is not the Talos API (no HTTP/2)")
    return Mode.MAINTENANCE


def _handshake_mode(address: str, error: ssl.SSLError) -> Mode:
    text = str(error).upper().replace(" ", "_")
    if _ALERTS_OF_MUTUAL_TLS.search(text):
        return Mode.FOREIGN
    if isinstance(error, ssl.SSLEOFError) or "EOF" in text or "ALERT" in text:
        return Mode.REFUSED
    raise ProtocolError(f"{address}: what listens there is not the Talos API (no TLS)") from error


def _authorities(cert: ClientCert | None) -> list[x509.Certificate]:
    if cert is None:
        return []
    try:
        return x509.load_pem_x509_certificates(cert.ca.encode())
    except ValueError:
        raise UserError("the cluster's CA is not a PEM certificate") from None


def _issued_by(leaf: bytes | None, authorities: list[x509.Certificate]) -> bool:
    if leaf is None:
        return False
    return any(_is_issuer(authority, leaf) for authority in authorities)


def _is_issuer(authority: x509.Certificate, leaf: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(leaf).verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _remaining(end: float) -> float:
    """Seconds left; a socket takes zero for "don't wait at all", so never quite that."""
    return max(0.001, end - time.monotonic())
