"""Signatures (Ed25519) and encryption (AES-256-GCM) of bundles, by the package cryptography."""

from __future__ import annotations

import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, PathError, ToolMissing

KEY_VARIABLE = "EDGEPIPE_BUNDLE_KEY"
SIGN_VARIABLE = "EDGEPIPE_BUNDLE_SIGN"
SIGNING, PUBLIC, MODEL = "sign.pem", "public.pem", "model.key"
NONCE = 12


@dataclass(frozen=True)
class Sealing:
    """What of a bundle is sealed, and with what. Never shown: neither field is in its repr."""

    signing: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        return f"Sealing(signed={bool(self.signing)}, encrypted={bool(self.key)})"

    @staticmethod
    def of(sign: str | Path | None, encrypt: bool, key: str | Path | None) -> Sealing:
        """Keys from files, or from the environment; wrong ones are refused before any work."""
        signing = _secret(sign, SIGN_VARIABLE)
        secret = _secret(key, KEY_VARIABLE) if encrypt or key else b""
        if encrypt and not secret:
            raise OptionError(
                "--encrypt needs a key",
                hint=f"--key FILE, or {KEY_VARIABLE}; `edgepipe bundle --keygen FOLDER` makes one.",
            )
        made = Sealing(signing, _key(secret) if secret else b"")
        if signing:
            made.sign(b"")
        if made.key:
            _cryptography("hazmat.primitives.ciphers.aead")
        return made

    def sign(self, content: bytes) -> bytes:
        serialization = _cryptography("hazmat.primitives.serialization")
        try:
            key = serialization.load_pem_private_key(self.signing, None)
            signed: bytes = key.sign(content)
        except (ValueError, TypeError) as error:
            raise OptionError(
                "the key to sign with is no private Ed25519 key in PEM without a password",
                hint="`edgepipe bundle --keygen FOLDER` makes one.",
            ) from error
        return signed

    def encrypt(self, name: str, content: bytes) -> bytes:
        """Nonce, ciphertext and tag; bound to the member's name, so that none can be swapped.

        The nonce comes from the content: the same model and key give the same bundle again, and
        no two contents share a nonce.
        """
        aead = _cryptography("hazmat.primitives.ciphers.aead")
        nonce = hashlib.sha256(self.key + name.encode() + b"\0" + content).digest()[:NONCE]
        sealed: bytes = aead.AESGCM(self.key).encrypt(nonce, content, name.encode())
        return nonce + sealed


def make_keys(folder: Path) -> list[Path]:
    """A pair to sign with and a key to encrypt with, the secret ones for their owner only."""
    ed25519 = _cryptography("hazmat.primitives.asymmetric.ed25519")
    serialization = _cryptography("hazmat.primitives.serialization")
    private = ed25519.Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    contents = {
        SIGNING: (secret, 0o600),
        PUBLIC: (public, 0o644),
        MODEL: (os.urandom(32).hex().encode() + b"\n", 0o600),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (content, mode) in contents.items():
            # Exclusive: keys that are there may be the only ones that open what was sealed.
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except FileExistsError as error:
        raise PathError(
            f"{error.filename} is there already, and keys are never overwritten",
            hint="name another folder.",
        ) from error
    except OSError as error:
        raise PathError(f"{folder} can't be written: {error.strerror}") from error
    return [folder / name for name in contents]


def _secret(given: str | Path | None, variable: str) -> bytes:
    if given:
        try:
            return Path(given).expanduser().read_bytes().strip()
        except OSError as error:
            raise OptionError(f"the key file {given} can't be read: {error.strerror}") from error
    return os.environ.get(variable, "").strip().encode()


def _key(text: bytes) -> bytes:
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        key = b""
    if len(key) != 32:
        raise OptionError(
            "the key to encrypt with is none: 64 hexadecimal digits are expected",
            hint="`edgepipe bundle --keygen FOLDER` makes one.",
        )
    return key


def _cryptography(module: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.{module}")
    except ImportError as error:
        raise ToolMissing(
            f"signing and encrypting need the package cryptography: {error}",
            hint='pip install "edgepipe[crypto]"',
        ) from error
