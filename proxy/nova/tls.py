"""TLS towards Nova: a context made of the settings' PEM texts. None of them reaches a disk."""

import ssl

from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.tls import Pair, Part, UnusableError, client_context

_SETTINGS = {
    Part.AUTHORITIES: "nova_ca",
    Part.CERTIFICATE: "nova_client_certificate",
    Part.KEY: "nova_client_key",
}


class TlsError(ValueError):
    """A PEM text is unusable. The message does not repeat it; `setting` names it."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"setting {setting} {problem}")
        self.setting = setting
        self.problem = problem


def tls_settings(settings: Settings) -> tuple[str, str, str, bool]:
    """Return the settings that a context depends on."""
    return (
        settings.nova_ca,
        settings.nova_client_certificate,
        settings.nova_client_key,
        settings.nova_insecure,
    )


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the context for connections to Nova.

    Without ``nova_insecure``, one of the authorities must have issued Nova's certificate, and it
    must name the endpoint's host, which may be an IP address.

    Raises:
        TlsError: a PEM text is unusable.
    """
    pair = None
    if settings.nova_client_certificate:
        pair = Pair(settings.nova_client_certificate, settings.nova_client_key)
    try:
        context = client_context(settings.nova_ca or None, pair)
    except UnusableError as error:
        raise TlsError(_SETTINGS[error.part], error.problem) from None
    if settings.nova_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
