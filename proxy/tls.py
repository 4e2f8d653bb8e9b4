"""TLS towards Nova: an SSL context made of the settings' PEM texts. Nothing of them reaches a disk.

OpenSSL reads a certificate with its key only from files, so they are handed to it in one that
exists in memory alone (memfd_create(2)) and is gone when the context is made.
"""

import os
import ssl

from ovs_metadata.proxy.settings import Settings


class TlsError(ValueError):
    """A PEM text cannot be used. The message does not repeat it; `setting` names it."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"setting {setting} {problem}")
        self.setting = setting
        self.problem = problem


def tls_settings(settings: Settings) -> tuple[str, str, str, bool]:
    """Return what a context depends on: with the same, a new one would be the same."""
    return (
        settings.nova_ca,
        settings.nova_client_certificate,
        settings.nova_client_key,
        settings.nova_insecure,
    )


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the context for connections to Nova.

    Unless the settings say ``nova_insecure``, Nova's certificate must come from one of the
    authorities and name the endpoint's host, which may be an IP address.

    Raises:
        TlsError: a PEM text cannot be used.
    """
    try:
        context = ssl.create_default_context(cadata=_ascii(settings.nova_ca) or None)
    except ssl.SSLError as error:
        raise TlsError("nova_ca", f"holds no usable certificate: {_reason(error)}") from None
    if settings.nova_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.nova_client_certificate:
        _load_certificate(context, settings.nova_client_certificate, settings.nova_client_key)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # Only to tell apart which of the two texts is wrong.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=_ascii(certificate))
    except ssl.SSLError as error:
        raise TlsError(
            "nova_client_certificate", f"holds no usable certificate: {_reason(error)}"
        ) from None

    def no_passphrase() -> str:
        raise TlsError("nova_client_key", "is encrypted: store it without a passphrase")

    with os.fdopen(os.memfd_create("nova-client", os.MFD_CLOEXEC), "wb") as file:
        file.write(f"{certificate}\n{key}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=no_passphrase)
        except ssl.SSLError as error:
            problem = (
                "does not belong to nova_client_certificate"
                if error.reason == "KEY_VALUES_MISMATCH"
                else f"holds no usable key: {_reason(error)}"
            )
            raise TlsError("nova_client_key", problem) from None


def _ascii(pem: str) -> str:
    """PEM is ASCII; the comments in between, often names of authorities, need not be."""
    return pem.encode("ascii", "replace").decode()


def _reason(error: Exception) -> str:
    """OpenSSL's words for what is wrong, without where in its sources it noticed."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
