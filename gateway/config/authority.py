"""The certificates of a private authority, as a worker's `tls.ca` names them."""

from __future__ import annotations

import ssl
from pathlib import Path

MAX_BYTES = 1024 * 1024


class AuthorityError(ValueError):
    """The message says what is wrong with the file, `remedy` what to do about it."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.remedy = remedy


def read_authority(path: Path) -> str:
    """The PEM text of a file that holds at least one certificate; raises `AuthorityError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AuthorityError(
            f"cannot be read ({error.strerror})", "name a PEM file that the gateway's user can read"
        ) from None
    if len(content) > MAX_BYTES:
        raise AuthorityError(f"is larger than {MAX_BYTES // 1024} KB", "name a file with the authority's certificates")
    try:
        text = content.decode("ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=text)
        if not context.cert_store_stats()["x509"]:
            raise ValueError
    except (ValueError, ssl.SSLError):  # UnicodeDecodeError is a ValueError
        raise AuthorityError(
            "holds no certificate that can be read", "write the authority's certificate there in PEM form"
        ) from None
    return text
