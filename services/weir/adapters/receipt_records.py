"""Encode and decode receipts as records of the topic `receipts`, keyed by event id."""

import msgspec

from weir.adapters import avro
from weir.core.batch import Output
from weir.core.receipts import Receipt


def encode_receipt(receipt: Receipt) -> Output:
    record = msgspec.structs.asdict(receipt)
    return Output(receipt.event_id, avro.schemas()["Receipt"].encode(record))


def decode_receipt(value: bytes) -> Receipt:
    """Decode a receipt. `avro.UnknownSchemaError`: its schema is unknown."""
    _, record = avro.decode_any(value)
    return msgspec.convert(record, Receipt)
