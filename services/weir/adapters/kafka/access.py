"""The first word with a Kafka cluster: whether it answers, and whether it lets Weir in."""

import time
from collections import deque

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from weir.adapters.errors import NotReachedError, RefusedError
from weir.adapters.kafka.clients import client_options
from weir.settings.shared import KafkaSettings

CONNECT_SECONDS = 5
KEPT_ERRORS = 100
# How librdkafka words a handshake that fails on the other side: to it that is a lost connection.
TLS_WORDS = ("SSL handshake failed", "SSL routines")


class KafkaUnreachableError(NotReachedError):
    """No broker answers; the text is one sentence that says where and what to start."""


class KafkaDeniedError(RefusedError):
    """A broker answers and lets Weir not in; the text is one sentence that says which settings to mend."""


def connect(settings: KafkaSettings) -> AdminClient:
    """A client that a broker has answered. `KafkaUnreachableError` at once where nobody listens,
    after some seconds where nobody answers; `KafkaDeniedError`.
    """
    # Not a method of whoever holds the client: an AdminClient's threads and sockets end when nobody
    # holds it any more, and a circle would leave that to the garbage collector.
    errors: deque[KafkaError] = deque(maxlen=KEPT_ERRORS)
    # log_level 0: librdkafka would print every failed connection; the exception says it once.
    client = AdminClient({**client_options(settings), "log_level": 0, "error_cb": errors.append})
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
    """`KafkaDeniedError` if the cluster answers and lets Weir not in; one that is away may come yet."""
    if not (settings.logs_in or settings.is_encrypted):
        return
    try:
        connect(settings)
    except KafkaUnreachableError:
        return


def _denial(settings: KafkaSettings, error: KafkaError) -> str:
    """Why a broker does not let Weir in, by what librdkafka says; empty: it is not about that."""
    place = f"Kafka at {settings.bootstrap()}"
    if error.code() == KafkaError._AUTHENTICATION:
        return (
            f"{place} refuses the user {settings.kafka_username!r} by"
            f" {settings.kafka_sasl_mechanism}: look at WEIR_KAFKA_USERNAME, WEIR_KAFKA_PASSWORD"
            " and WEIR_KAFKA_SASL_MECHANISM."
        )
    text = str(error.str())
    if error.code() == KafkaError._SSL or any(words in text for words in TLS_WORDS):
        reason = text.split(": ", 1)[-1].split(" (after ")[0]  # without the broker's address
        return (
            f"{place} and Weir do not agree on TLS: look at WEIR_KAFKA_SECURITY_PROTOCOL and"
            " WEIR_KAFKA_CA_FILE, and where brokers ask for a certificate at WEIR_KAFKA_CERT_FILE"
            f" and WEIR_KAFKA_KEY_FILE ({reason})."
        )
    return ""


def _silence(settings: KafkaSettings) -> str:
    start = (
        "start it with `weir up` (or `weir kafka`), or point WEIR_KAFKA_BOOTSTRAP at a running one"
    )
    if settings.kafka_bootstrap:  # one that wants TLS or a password hangs up without a word
        start += "; if it wants TLS or a password, set WEIR_KAFKA_SECURITY_PROTOCOL"
    return f"Kafka does not answer at {settings.bootstrap()}: {start}."
