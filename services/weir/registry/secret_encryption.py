"""Signing secrets through cryptography: encrypted in the registry, in plain in a gateway's memory alone.

Fernet (AES-128-CBC, HMAC-SHA256, https://github.com/fernet/spec): what was altered does not open.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from weir.core.registry import SEALED, Source, is_sealed
from weir.settings.shared import CommonSettings, KafkaSettings, SecretsSettings

LOCAL_KEY = "secrets.key"  # in WEIR_DATA_DIR


class NoSecretsKeyError(Exception):
    """There is nothing to encrypt with; the text says how to come by it."""


def new_key() -> str:
    return Fernet.generate_key().decode()


def secrets_keys(
    common: CommonSettings, kafka: KafkaSettings, secrets: SecretsSettings
) -> tuple[str, ...]:
    """Those of the setting; without, and with the embedded broker, one of this machine's own.

    The registry of an embedded broker is in the same folder, so the folder opens itself.
    """
    if secrets.secrets_key or kafka.kafka_bootstrap:
        return secrets.secrets_key
    return (_local_key(common.data_dir / LOCAL_KEY),)


def _local_key(path: Path) -> str:
    """The key in a file that its owner alone may read; made when it is asked for first."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key() + "\n")
        try:
            os.link(fresh, path)  # whole, and never over another's
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


class SecretEncryption:
    """Encrypts with the first key, decrypts with any."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        boxes = [Fernet(key) for key in keys]
        self._first = boxes[0] if boxes else None
        self._any = MultiFernet(boxes) if boxes else None

    def sealed(self, source: Source) -> Source:
        """With every secret encrypted, those that are already as they are. `NoSecretsKeyError`."""
        return self._each(source, self._seal)

    def opened(self, source: Source) -> Source:
        """With every secret in plain that a key opens; the others as they are (`is_sealed`)."""
        return self._each(source, self._open)

    def is_current(self, source: Source) -> bool:
        """Whether every secret is encrypted with the first key, as what is written now would be."""
        return all(self._is_current(secret) for secret in source.signing_secrets)

    def _each(self, source: Source, change: Callable[[str], str]) -> Source:
        if not source.signing_secrets:
            return source
        changed = tuple(change(secret) for secret in source.signing_secrets)
        return msgspec.structs.replace(source, signing_secrets=changed)

    def _seal(self, secret: str) -> str:
        if is_sealed(secret):
            return secret
        if self._first is None:
            raise NoSecretsKeyError(
                "signing secrets are stored encrypted, and WEIR_SECRETS_KEY is not set: make a key"
                " with `weir keys secret-key`, and set it here and for the gateways"
            )
        return SEALED + self._first.encrypt(secret.encode()).decode()

    def _open(self, secret: str) -> str:
        if not is_sealed(secret) or self._any is None:
            return secret
        try:
            return self._any.decrypt(secret.removeprefix(SEALED)).decode()
        except InvalidToken:
            return secret

    def _is_current(self, secret: str) -> bool:
        if not is_sealed(secret) or self._first is None:
            return False
        try:
            self._first.decrypt(secret.removeprefix(SEALED))
        except InvalidToken:
            return False
        return True
