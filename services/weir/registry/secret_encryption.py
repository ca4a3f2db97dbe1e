"""Encrypt signing secrets: encrypted in the registry, in plain text only in a gateway's memory.

It uses Fernet of the package cryptography (AES-128-CBC, HMAC-SHA256, https://github.com/fernet/spec): an altered
secret cannot be decrypted.
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
    """There is no key to encrypt with; the text says how to get one."""


def new_key() -> str:
    return Fernet.generate_key().decode()


def secrets_keys(
    common: CommonSettings, kafka: KafkaSettings, secrets: SecretsSettings
) -> tuple[str, ...]:
    """Return the keys of the setting; if there are none, and the broker is embedded, this machine's local key.

    An embedded broker stores the registry in the same folder as the local key, so the folder alone suffices to
    decrypt it.
    """
    if secrets.secrets_key or kafka.kafka_bootstrap:
        return secrets.secrets_key
    return (_local_key(common.data_dir / LOCAL_KEY),)


def _local_key(path: Path) -> str:
    """Return the key in a file that only its owner may read; create it at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key() + "\n")
        try:
            os.link(fresh, path)  # atomic, and never replaces another process's key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


class SecretEncryption:
    """Encrypts with the first key, decrypts with any of them."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        boxes = [Fernet(key) for key in keys]
        self._first = boxes[0] if boxes else None
        self._any = MultiFernet(boxes) if boxes else None

    def sealed(self, source: Source) -> Source:
        """Return the source with every secret encrypted; encrypted ones stay unchanged. `NoSecretsKeyError`."""
        return self._each(source, self._seal)

    def opened(self, source: Source) -> Source:
        """Return the source with its secrets decrypted; those that no key decrypts stay sealed (`is_sealed`)."""
        return self._each(source, self._open)

    def is_current(self, source: Source) -> bool:
        """Check whether every secret is encrypted with the first key, like newly written ones."""
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
                "signing secrets are stored encrypted, but WEIR_SECRETS_KEY is not set: make a key"
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
