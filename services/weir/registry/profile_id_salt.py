"""The salt of an installation's profile ids: a registry entry that is created once and never changed."""

import secrets
from functools import partial

import msgspec
from confluent_kafka import KafkaException, Producer

from weir.adapters import avro
from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import TableReader, client_options
from weir.adapters.kafka.retry import retry
from weir.adapters.kafka.transactions import FENCED, transaction_errors
from weir.core import topics
from weir.core.identifiers import ProfileIds
from weir.registry.follower import registry_entry, registry_key
from weir.runtime.ports import FencedError
from weir.settings.shared import KafkaSettings

KIND = "profile_ids"
ENTRY_ID = "salt"
SALT_BYTES = 32
TRANSACTIONAL_ID = "weir-profile-ids"
SECONDS = 10
READ_SECONDS = 30
READ_ONCE_MS = 20
REPLACED = "Another process is creating the salt of profile ids: run this again."
NOT_TAKEN = "The salt of profile ids cannot be written: {fault}."

_writer_errors = partial(transaction_errors, REPLACED, NOT_TAKEN)


class SaltEntry(msgspec.Struct, frozen=True):
    """The document of the registry entry. `legacy`: profiles existed before the salt and keep their ids."""

    salt: str  # hex
    legacy: bool = False


def read_profile_ids(settings: KafkaSettings, seconds: float = 30) -> ProfileIds | None:
    """Return how this installation mints profile ids; None if there is no salt. `UnavailableError`."""
    wanted = registry_key(KIND, ENTRY_ID)
    found: list[ProfileIds] = []

    def look(key: bytes, value: bytes | None) -> None:
        if key == wanted and value is not None:
            document = msgspec.json.decode(avro.decode_any(value)[1]["document"], type=SaltEntry)
            found[:] = [ProfileIds(bytes.fromhex(document.salt), document.legacy)]

    reader = TableReader(settings, topics.REGISTRY, READ_ONCE_MS)
    try:
        reader.read_all(look, seconds)
    except KafkaException as fault:
        raise UnavailableError(f"The registry cannot be read: {fault.args[0]}.") from None
    finally:
        reader.close()
    return found[0] if found else None


def _read_soon(settings: KafkaSettings) -> ProfileIds | None:
    """Call `read_profile_ids` with retries: a topic that was just created is not known to every broker at once."""
    return retry(
        lambda: read_profile_ids(settings), UnavailableError, lambda fault: True, READ_SECONDS
    )


def ensure_salt(settings: KafkaSettings, legacy: bool) -> bool:
    """Create the salt in the registry unless there is one; return whether it was created.

    `legacy`: there are profiles already. If several processes do this at once, only one writes: the brokers
    refuse the transaction of a process if another has started after it. `UnavailableError`, `ReplacedError`.
    """
    if _read_soon(settings) is not None:
        return False
    producer = Producer(
        {**client_options(settings), "transactional.id": TRANSACTIONAL_ID, "log_level": 0}
    )
    key, value = registry_entry(KIND, ENTRY_ID, SaltEntry(secrets.token_hex(SALT_BYTES), legacy))
    with _writer_errors():
        try:
            producer.init_transactions(SECONDS)  # earlier producers cannot commit any more
            if read_profile_ids(settings) is not None:
                return False
            producer.begin_transaction()
            producer.produce(topics.REGISTRY, value, key)
            producer.commit_transaction(SECONDS)
        except KafkaException as fault:
            if fault.args[0].code() in FENCED:
                raise FencedError(str(fault)) from fault
            raise
    return True
