"""An authority of the lab's own, and certificates signed by it, made by openssl."""

from pathlib import Path

from lab.rig.process import run

_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Certificates and keys, PEM files below `directory`: `certificate` is the authority's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        run(
            *("openssl", "req", "-x509", "-days", "1", *_EC_KEY, "-subj", "/CN=lab authority"),
            # As strict readers want it: Python 3.13 is one (ssl.VERIFY_X509_STRICT).
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(
        self, name: str, alternative: str = "IP:127.0.0.1", days: int = 1
    ) -> tuple[Path, Path]:
        """A certificate for an address or name, signed by the authority, and its key.

        Valid for some days from now, or with a negative number until some days ago.
        """
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request = self._directory / f"{name}.csr"
        run(
            *("openssl", "req", "-new", *_EC_KEY, "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={alternative}", "-keyout", key, "-out", request),
            *("-addext", "keyUsage=critical,digitalSignature"),
        )
        run(
            *("openssl", "x509", "-req", "-days", str(days), "-in", request, "-out", certificate),
            *("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-copy_extensions", "copy"),
        )
        key.chmod(0o600)
        return certificate, key

    def keystore(self, name: str, alternative: str = "IP:127.0.0.1") -> Path:
        """Such a certificate and its key in one file, as ZooKeeper's servers want them."""
        certificate, key = self.sign(name, alternative)
        both = self._directory / f"{name}-keystore.pem"
        both.touch(mode=0o600)
        both.write_text(key.read_text() + certificate.read_text())
        return both
