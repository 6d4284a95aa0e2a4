"""EdDSA keys: rotation, JWKS, and tokens that no key of the configuration has signed."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from api import keys as module
from api import tokens
from api.identity import Identity
from api.keys import Keys, thumbprint
from jobber.errors import InvalidData, Unauthenticated
from tests.support.auth import SECRET, AuthProcess, auth_process


def pem(key: Any, *, private: bool = True) -> bytes:
    if private:
        made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made
    public: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


OLD, NEW, FOREIGN = (Ed25519PrivateKey.generate() for _ in range(3))


@pytest.fixture(scope="module")
def service(clone: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AuthProcess, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "2026-10.pem").write_bytes(pem(OLD))
    (folder / "2026-11.pem").write_bytes(pem(NEW))
    with auth_process(clone("template1"), JOBBER_JWT_KEYS=str(folder)) as process:
        yield process.ready(), folder


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def signed(token: str, key: Any, algorithm: str = "EdDSA", **header: Any) -> str:
    """The claims of the token, signed again."""
    made: str = jwt.encode(claims_of(token), key, algorithm, headers={"typ": tokens.TYPE} | header)
    return made


def test_the_newest_key_signs_and_all_of_them_are_taken(service: tuple[AuthProcess, Path], tmp_path: Path) -> None:
    auth, _ = service
    token = auth.login()
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": thumbprint(NEW.public_key())}
    assert auth.post("{ me { id } }", token).status_code == 200
    by_old = signed(token, OLD, kid=thumbprint(OLD.public_key()))
    assert auth.post("{ me { id } }", by_old).status_code == 200
    # A service that only checks has public keys only.
    (tmp_path / "a.pem").write_bytes(pem(NEW, private=False))
    checks = Keys(SECRET, tmp_path)
    assert tokens.verify(token, checks).user_id == claims_of(token)["sub"]
    with pytest.raises(InvalidData, match="no private key"):
        checks.signing(tokens.TYPE)
    with pytest.raises(Unauthenticated):  # The old key is gone from here.
        tokens.verify(by_old, checks)


def test_a_new_key_is_found_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pem").write_bytes(pem(OLD))
    keys = Keys(SECRET, tmp_path)
    moment = datetime.fromtimestamp(1_800_000_000, UTC)
    id = "00000000-0000-4000-8000-000000000000"
    claims = tokens.Claims(id, id, moment, datetime.fromtimestamp(1_800_000_600, UTC))
    (tmp_path / "b.pem").write_bytes(b"half a key")
    with monkeypatch.context() as patch:
        patch.setattr(module, "READ_AGAIN", 0.0)
        with pytest.raises(Unauthenticated):  # Not an error of ours: what is known goes on.
            keys.verifying({"alg": "EdDSA", "typ": tokens.TYPE, "kid": "x"}, tokens.TYPE)
    (tmp_path / "b.pem").write_bytes(pem(NEW))
    token = tokens.sign(claims, Keys(SECRET, tmp_path))
    with pytest.raises(Unauthenticated):  # It was read a moment ago: whoever makes up names does not make it read.
        tokens.verify(token, keys)
    monkeypatch.setattr(module, "READ_AGAIN", 0.0)
    assert tokens.verify(token, keys) == claims


async def test_a_key_that_is_taken_away_takes_its_tokens_along(
    service: tuple[AuthProcess, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth, _ = service
    by_new = auth.login()
    by_old = signed(by_new, OLD, kid=thumbprint(OLD.public_key()))
    for name, key in (("a.pem", OLD), ("b.pem", NEW)):
        (tmp_path / name).write_bytes(pem(key, private=False))
    who = Identity(auth.grpc, SECRET, keys=Keys(SECRET, tmp_path))
    try:
        for token in (by_old, by_new, by_old):
            await who.caller(token)
        (tmp_path / "a.pem").unlink()
        # auth has both keys still: it is the service's own configuration that counts.
        await who.caller(by_old)
        monkeypatch.setattr(module, "READ_ANYWAY", 0.0)
        with pytest.raises(Unauthenticated):
            await who.caller(by_old)
        await who.caller(by_new)
    finally:
        await who.close()


def test_what_no_key_of_ours_has_signed_is_refused(service: tuple[AuthProcess, Path]) -> None:
    auth, _ = service
    token, kid = auth.login(), thumbprint(NEW.public_key())
    raw = NEW.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(FOREIGN.public_key()))
    forged = {
        "foreign key": signed(token, FOREIGN, kid=kid),
        "foreign key, its own name": signed(token, FOREIGN, kid=thumbprint(FOREIGN.public_key())),
        "brings its key": signed(token, FOREIGN, kid=kid, jwk=jwk),
        "no kid": signed(token, NEW),
        "kid is a path": signed(token, NEW, kid="../../../../dev/null"),
        "HS256 with the secret": signed(token, SECRET, "HS256"),
        "HS256 with the public key": signed(token, raw, "HS256", kid=kid),
        "none": signed(token, None, "none", kid=kid),
        "jku": signed(token, NEW, kid=kid, jku="https://evil.example"),
        "crit": signed(token, NEW, kid=kid, crit=["x"]),
    }
    answers = {name: auth.post("{ me { id } }", text).status_code for name, text in forged.items()}
    assert answers == dict.fromkeys(forged, 401)


def test_the_public_keys_are_published(service: tuple[AuthProcess, Path]) -> None:
    auth, _ = service
    answer = httpx.get(f"{auth.url}/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    published = jwt.PyJWKSet.from_dict(answer.json())
    token = auth.login()
    key = published[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience=tokens.AUDIENCE, issuer=tokens.ISSUER) == claims_of(token)
    assert len(answer.json()["keys"]) == 2
    assert all("d" not in key for key in answer.json()["keys"])


def test_a_secret_is_not_published(clone: Callable[[str], str]) -> None:
    with auth_process(clone("template1")) as auth:
        auth.ready()
        assert httpx.get(f"{auth.url}/.well-known/jwks.json").status_code == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no key"),
        (b"garbage", "cannot be read as a key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no Ed25519 key"),
    ],
)
def test_a_folder_without_good_keys_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "a.pem").write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        Keys(SECRET, tmp_path)
