"""An authority of our own for tests, and certificates from it: good, of another name, expired."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Its own certificate is `ca`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        self.ca = directory / f"{name}.pem"
        directory.mkdir(parents=True, exist_ok=True)
        subject = ("-subj", f"/CN=Test authority {name}", "-days", "2")
        self._openssl("req", "-x509", *_CURVE, "-keyout", f"{name}.key", "-out", self.ca.name, *subject)

    def server(self, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> ssl.SSLContext:
        """What a server needs that calls itself so; negative `days` are over."""
        leaf = f"{self._name}-{abs(hash((names, days)))}"
        self._openssl("req", *_CURVE, "-keyout", f"{leaf}.key", "-out", f"{leaf}.csr", "-subj", "/CN=worker")
        (self._directory / f"{leaf}.names").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        signer = ("-CA", self.ca.name, "-CAkey", f"{self._name}.key", "-CAcreateserial")
        more = ("-days", str(days), "-extfile", f"{leaf}.names")
        self._openssl("x509", "-req", "-in", f"{leaf}.csr", *signer, "-out", f"{leaf}.pem", *more)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._directory / f"{leaf}.pem", self._directory / f"{leaf}.key")
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
