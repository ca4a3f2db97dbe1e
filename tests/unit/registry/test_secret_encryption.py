"""Signing secrets are encrypted with the first key and decrypted with any configured key."""

import stat
from pathlib import Path

import pytest

from weir.core.registry import Source, is_sealed
from weir.registry.secret_encryption import (
    LOCAL_KEY,
    NoSecretsKeyError,
    SecretEncryption,
    new_key,
    secrets_keys,
)
from weir.settings.environment import SettingsError, load
from weir.settings.shared import CommonSettings, KafkaSettings, SecretsSettings

SECRETS = ("a-secret-of-theirs", "größer-as-well")
SHOP = Source(id="shop", signing_secrets=SECRETS)
OLD, NEW = new_key(), new_key()


def test_an_encrypted_secret_is_unreadable_and_decrypts_to_the_original() -> None:
    sealing = SecretEncryption((OLD,))
    sealed = sealing.sealed(SHOP)
    assert all(map(is_sealed, sealed.signing_secrets))
    assert not any(secret in repr(sealed) for secret in SECRETS)
    assert sealing.opened(sealed) == SHOP
    assert sealing.sealed(sealed) == sealed


def test_an_encryption_key_is_rotated_by_listing_the_new_key_before_the_old() -> None:
    sealed = SecretEncryption((OLD,)).sealed(SHOP)
    both = SecretEncryption((NEW, OLD))
    assert both.opened(sealed) == SHOP
    assert not both.is_current(sealed)
    anew = both.sealed(both.opened(sealed))
    assert both.is_current(anew)
    assert SecretEncryption((NEW,)).opened(anew) == SHOP


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_a_secret_is_not_decrypted_without_its_key(keys: tuple[str, ...]) -> None:
    sealed = SecretEncryption((OLD,)).sealed(SHOP)
    assert SecretEncryption(keys).opened(sealed) == sealed
    assert not SecretEncryption(keys).is_current(sealed)


def test_an_altered_secret_is_not_decrypted() -> None:
    (first, _) = SecretEncryption((OLD,)).sealed(SHOP).signing_secrets
    altered = Source(id="shop", signing_secrets=(first[:-6] + "AAAA==",))
    assert SecretEncryption((OLD,)).opened(altered) == altered


def test_plain_secrets_of_earlier_versions_are_read_unchanged() -> None:
    assert SecretEncryption().opened(SHOP) == SecretEncryption((OLD,)).opened(SHOP) == SHOP
    assert not SecretEncryption((OLD,)).is_current(SHOP)


def test_encrypting_secrets_without_a_key_raises_an_error() -> None:
    with pytest.raises(NoSecretsKeyError, match="weir keys secret-key"):
        SecretEncryption().sealed(SHOP)
    assert SecretEncryption().sealed(Source(id="blog")) == Source(id="blog")


def test_the_embedded_broker_gets_a_private_encryption_key_in_its_data_folder(
    tmp_path: Path,
) -> None:
    common = CommonSettings(data_dir=tmp_path / "new")
    (made,) = secrets_keys(common, KafkaSettings(), SecretsSettings())
    path = tmp_path / "new" / LOCAL_KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secrets_keys(common, KafkaSettings(), SecretsSettings()) == (made,)
    assert SecretEncryption((made,)).opened(SecretEncryption((made,)).sealed(SHOP)) == SHOP
    assert [entry.name for entry in path.parent.iterdir()] == [LOCAL_KEY]


def test_only_the_secrets_key_setting_counts_with_an_external_broker(tmp_path: Path) -> None:
    common, kafka = CommonSettings(data_dir=tmp_path), KafkaSettings(kafka_bootstrap="b:1")
    assert secrets_keys(common, kafka, SecretsSettings()) == ()
    given = SecretsSettings(secrets_key=(OLD,))
    assert secrets_keys(common, KafkaSettings(), given) == (OLD,)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["short", OLD[:-2], f"{OLD},größer", f"{OLD}x"],
    ids=["short", "cut", "other letters", "longer"],  # a key's own text differs at each start
)
def test_an_invalid_secrets_key_is_rejected_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(SecretsSettings, {"WEIR_SECRETS_KEY": text})
    assert "weir keys secret-key" in str(error.value)
    assert text not in str(error.value)


def test_secrets_key_accepts_a_list_of_keys_and_hides_them() -> None:
    loaded = load(SecretsSettings, {"WEIR_SECRETS_KEY": f"{NEW}, {OLD}"})
    assert loaded.secrets_key == (NEW, OLD)
    assert NEW not in repr(loaded)
