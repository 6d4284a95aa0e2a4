"""A small certificate authority."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobber.credentials import Tls


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)

    def issue(self, folder: Path) -> dict[str, str]:
        """A certificate for 127.0.0.1, with the settings that name its files."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        parts = {"AUTHORITY": self.certificate, "CERTIFICATE": self._sign(name, key.public_key()), "KEY": pem}
        for part, data in parts.items():
            (folder / part).write_bytes(data)
        return {f"JOBBER_GRPC_{part}": str(folder / part) for part in parts}

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def tls_of(settings: dict[str, str]) -> Tls:
    """What a client shows, and takes."""
    return Tls.read(*(Path(settings[f"JOBBER_GRPC_{part}"]) for part in ("AUTHORITY", "CERTIFICATE", "KEY")))
