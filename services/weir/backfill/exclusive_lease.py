"""Ensure that only one rebuild of ClickHouse runs at a time, on whichever machine it was started."""

from functools import partial

from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.transactions import Transactions, transaction_errors
from weir.core import topics
from weir.core.batch import Output
from weir.settings.shared import KafkaSettings

TRANSACTIONAL_ID = "weir-rebuild"
SECONDS = 10
PROOF = Output(b"", b"-")  # no reader: it only matters that the brokers accept it
REPLACED = (
    "Another replay has started and has ended this one. What this one has restored stays; when the"
    " other has ended, run this one again if anything is still missing."
)
NOT_TAKEN = "Kafka does not answer: {fault}."

_lease_errors = partial(transaction_errors, REPLACED, NOT_TAKEN)


class ExclusiveLease:
    """A lease held from construction until a later one is constructed. `UnavailableError` if Kafka does not answer.

    Brokers accept only the latest producer of a transactional id and refuse every earlier one.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        options = {**client_options(settings), "log_level": 0}
        with _lease_errors():
            self._transactions = Transactions(options, TRANSACTIONAL_ID, SECONDS, [topics.PROBE])

    def require(self) -> None:
        """Check that no later lease exists at the time of the call; otherwise raise `ReplacedError`."""
        with _lease_errors():
            self._transactions.begin()
            self._transactions.write(topics.PROBE, None, [PROOF])
            self._transactions.commit()
