"""The keys that tokens are signed with: JWT_SECRET (HS256), or Ed25519 keys in a folder (EdDSA); none that a token brings.

With a folder auth signs with the private key whose file sorts last, and everybody takes what any key of the folder has signed.
To rotate: put the new public key into every folder, then the private one into auth's, and take the old one away once the last
session that it signed has ended. A folder is read again when a key is asked for that is not known.
"""

import base64
import contextlib
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_pem_public_key

from jobber.errors import InvalidData, Unauthenticated

#: Seconds between two looks into the folder for a key that is not known: anybody can ask for one.
READ_AGAIN = 5.0
#: Seconds after which a key that was taken out of the folder is good no longer, and its tokens neither.
READ_ANYWAY = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """What signs a token, and its header."""

    algorithm: str
    key: Any
    header: Mapping[str, str]


class Keys:
    """The keys of the configuration."""

    def __init__(self, secret: str, folder: Path | None = None) -> None:
        """Raises InvalidData for a folder without keys, or with files that are none."""
        self._secret = secret
        self._folder = folder
        self._public: dict[str, Ed25519PublicKey] = {}
        self._private: Ed25519PrivateKey | None = None
        self._read_at = 0.0
        self._epoch = 0
        if folder is not None:
            self._read(folder)

    def signing(self, typ: str) -> SigningKey:
        """What signs now. Raises InvalidData when the folder has public keys only."""
        if self._folder is None:
            return SigningKey("HS256", self._secret, {"typ": typ})
        if self._private is None:
            raise InvalidData(f"JOBBER_JWT_KEYS: there is no private key in {self._folder} to sign with.")
        return SigningKey("EdDSA", self._private, {"typ": typ, "kid": thumbprint(self._private.public_key())})

    def verifying(self, header: Mapping[str, Any], typ: str) -> tuple[str, Any]:
        """The algorithm and the key for a token of that header.

        Raises Unauthenticated for a header that `signing` would not have made: no `jwk`, `jku` or `x5u` is ever looked at, no
        `crit` is understood, and a `kid` only chooses among the keys that are here.
        """
        if self._folder is None:
            if header == {"alg": "HS256", "typ": typ}:
                return "HS256", self._secret
            raise Unauthenticated
        kid = header.get("kid")
        if not isinstance(kid, str) or header != {"alg": "EdDSA", "typ": typ, "kid": kid}:
            raise Unauthenticated
        self._read_after(READ_ANYWAY if kid in self._public else READ_AGAIN)
        if kid not in self._public:
            raise Unauthenticated
        return "EdDSA", self._public[kid]

    @property
    def epoch(self) -> int:
        """Another number whenever the keys have changed."""
        self._read_after(READ_ANYWAY)
        return self._epoch

    @property
    def jwks(self) -> dict[str, Any] | None:
        """The public keys as RFC 7517 has them; None where a secret signs."""
        if self._folder is None:
            return None
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "x": _x(key), "kid": kid, "use": "sig", "alg": "EdDSA"}
                for kid, key in self._public.items()
            ]
        }

    def _read_after(self, seconds: float) -> None:
        """Read the folder again when it was read so long ago."""
        if self._folder is not None and time.monotonic() - self._read_at >= seconds:
            with contextlib.suppress(InvalidData):  # In the middle of a rotation; those that are known go on.
                self._read(self._folder)

    def _read(self, folder: Path) -> None:
        self._read_at = time.monotonic()
        public: dict[str, Ed25519PublicKey] = {}
        private: Ed25519PrivateKey | None = None
        for path in sorted(folder.glob("*.pem")):
            key = _load(path)
            if isinstance(key, Ed25519PrivateKey):
                private, key = key, key.public_key()
            public[thumbprint(key)] = key
        if not public:
            raise InvalidData(f"JOBBER_JWT_KEYS: there is no key (*.pem) in {folder}.")
        self._epoch += public.keys() != self._public.keys()
        self._public, self._private = public, private


def thumbprint(key: Ed25519PublicKey) -> str:
    """The key's name: RFC 7638, as RFC 8037 has it for Ed25519."""
    members = msgspec.json.encode({"crv": "Ed25519", "kty": "OKP", "x": _x(key)})
    return _base64(hashlib.sha256(members).digest())


def _load(path: Path) -> Ed25519PrivateKey | Ed25519PublicKey:
    try:
        text = path.read_bytes()
        key = load_pem_private_key(text, None) if b"PRIVATE KEY" in text else load_pem_public_key(text)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise InvalidData(f"JOBBER_JWT_KEYS: {path.name} cannot be read as a key.") from fault
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise InvalidData(f"JOBBER_JWT_KEYS: {path.name} is no Ed25519 key; make one with: openssl genpkey -algorithm ed25519")
    return key


def _x(key: Ed25519PublicKey) -> str:
    return _base64(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
