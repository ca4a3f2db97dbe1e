"""Connect to a Kafka cluster: check whether it answers and whether it grants Weir access."""

import time
from collections import deque

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.clients import admin_client, client_options
from weir.settings.shared import KafkaSettings

CONNECT_SECONDS = 5
KEPT_ERRORS = 100
# librdkafka's texts for a handshake that fails on the broker's side: it reports only a lost connection.
TLS_WORDS = ("SSL handshake failed", "SSL routines")


class KafkaUnreachableError(UnavailableError):
    """No broker answers; the text is one sentence that says where and what to start."""


class KafkaDeniedError(RefusedError):
    """A broker answers but denies access; the text is one sentence that says which settings to fix."""


def connect(settings: KafkaSettings) -> AdminClient:
    """Return a client to which a broker has answered. `KafkaUnreachableError` at once if nothing listens, or
    after CONNECT_SECONDS if nothing answers; `KafkaDeniedError` if access is denied.
    """
    # Not a method of the object that holds the client: an AdminClient's threads and sockets end with its
    # last reference, and a reference cycle would leave that to the garbage collector.
    errors: deque[KafkaError] = deque(maxlen=KEPT_ERRORS)
    # log_level 0: librdkafka would print every failed connection, and the exception reports it once.
    client = admin_client({**client_options(settings), "log_level": 0, "error_cb": errors.append})
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            client.list_topics(timeout=0.5)
            return client
        except KafkaException:
            client.poll(0)
        for error in errors:
            if why := _denial(settings, error):
                raise KafkaDeniedError(why)
        down = any(error.code() == KafkaError._ALL_BROKERS_DOWN for error in errors)
        if down or time.monotonic() > deadline:
            raise KafkaUnreachableError(_silence(settings))


def require_access(settings: KafkaSettings) -> None:
    """Raise `KafkaDeniedError` if the cluster answers but denies access; an absent cluster may still appear."""
    if not (settings.logs_in or settings.is_encrypted):
        return
    try:
        connect(settings)
    except KafkaUnreachableError:
        return


def _denial(settings: KafkaSettings, error: KafkaError) -> str:
    """Return why a broker denies access, from librdkafka's error; empty if the error is of another kind."""
    place = f"Kafka at {settings.bootstrap()}"
    if error.code() == KafkaError._AUTHENTICATION:
        return (
            f"{place} refuses the user {settings.kafka_username!r} with"
            f" {settings.kafka_sasl_mechanism}: check WEIR_KAFKA_USERNAME, WEIR_KAFKA_PASSWORD"
            " and WEIR_KAFKA_SASL_MECHANISM."
        )
    text = str(error.str())
    if error.code() == KafkaError._SSL or any(words in text for words in TLS_WORDS):
        reason = text.split(": ", 1)[-1].split(" (after ")[0]  # without the broker's address
        return (
            f"{place} and Weir do not agree on TLS: check WEIR_KAFKA_SECURITY_PROTOCOL and"
            " WEIR_KAFKA_CA_FILE, and if brokers require a certificate, WEIR_KAFKA_CERT_FILE"
            f" and WEIR_KAFKA_KEY_FILE ({reason})."
        )
    return ""


def _silence(settings: KafkaSettings) -> str:
    start = (
        "start it with `weir up` (or `weir kafka`), or point WEIR_KAFKA_BOOTSTRAP at a running one"
    )
    # a broker that requires TLS or a password closes the connection silently
    if settings.kafka_bootstrap:
        start += "; if it requires TLS or a password, set WEIR_KAFKA_SECURITY_PROTOCOL"
    return f"Kafka does not answer at {settings.bootstrap()}: {start}."
