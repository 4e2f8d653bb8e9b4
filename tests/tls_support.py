"""Certificates for tests, made by openssl, with an authority of their own."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Credentials:
    """A certificate and its key, as PEM texts."""

    certificate: str
    key: str


class Authority:
    """A certificate authority whose files are below a directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = name
        # As strict readers want it: Python 3.13 is one (ssl.VERIFY_X509_STRICT).
        self._make(
            *(name, "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self.certificate = (directory / f"{name}.pem").read_text()

    def issue(self, name: str, *alternatives: str) -> Credentials:
        """Issue a certificate for names such as ``DNS:localhost`` and ``IP:127.0.0.1``."""
        names = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        ours = self._directory / self._name
        self._make(
            *(name, "-subj", f"/CN={name}", *names, "-addext", "basicConstraints=CA:FALSE"),
            *("-addext", "keyUsage=critical,digitalSignature"),
            *("-CA", f"{ours}.pem", "-CAkey", f"{ours}.key"),
        )
        path = self._directory / name
        return Credentials(
            path.with_suffix(".pem").read_text(), path.with_suffix(".key").read_text()
        )

    def server_context(self, *alternatives: str, client: bool = False) -> ssl.SSLContext:
        """Return the context of a server of these names; ``client`` demands a certificate."""
        self.issue("server", *alternatives)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        path = self._directory / "server"
        context.load_cert_chain(path.with_suffix(".pem"), path.with_suffix(".key"))
        if client:
            context.load_verify_locations(cadata=self.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _make(self, name: str, *options: str) -> None:
        path = self._directory / name
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-days", "1", *EC_KEY, *options),
                *("-keyout", f"{path}.key", "-out", f"{path}.pem"),
            ],
            check=True,
            capture_output=True,
        )
