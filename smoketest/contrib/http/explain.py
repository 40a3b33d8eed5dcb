"""Explain why no response was received."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException

from urllib3.exceptions import DecodeError, HTTPError

#: Explanations of the verification error codes of OpenSSL (openssl-verification-options(1)).
_VERIFICATION = {
    9: "is not valid yet: check the clock of this host",
    10: "has expired: renew it and reload the server",
    18: "is self-signed: get one from a certificate authority, or set 'ca_file' to its file",
    19: "was issued by an authority that this host does not trust: set 'ca_file' to its file",
    20: (
        "was issued by an authority that this host does not trust, or the server does not send"
        " the intermediate certificates: send the full chain, or set 'ca_file'"
    ),
    62: "is for another name: get one for this name, or correct the URL",
    64: "is for another IP address: get one for this address, or use the host name",
}


def explain(error: BaseException, host: str, *, step: str, seconds: float) -> str:
    """Return what an error of the network or of urllib3 means, and what to do.

    The error occurred in this step, so many seconds after the beginning of the request.
    """
    if isinstance(error, DecodeError):
        return f"the compressed body from {host} cannot be decompressed"
    match error.__cause__ or error:  # urllib3 wraps errors that occur in the body
        case socket.gaierror() as error:
            return f"the name of {host} cannot be resolved ({error.strerror}): check the DNS"
        case ssl.SSLCertVerificationError() as error:
            unknown = f"is not trusted: {error.verify_message}"
            return f"the certificate of {host} {_VERIFICATION.get(error.verify_code, unknown)}"
        case TimeoutError():
            return f"{host} did not respond within {seconds:.1f} s; it timed out while {step}"
        case ssl.SSLError() as error:
            return f"TLS with {host} fails: {error.reason or error}"
        case ConnectionRefusedError():
            advice = "start the server, or allow the port in the firewall"
            return f"{host} refuses connections: {advice}"
        case ConnectionError() | HTTPException() | HTTPError() as error:
            reason = f"or does not speak HTTP ({type(error).__name__})"
            return f"{host} closed the connection too early, {reason}"
        case error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return f"{host} cannot be reached: {reason}"
