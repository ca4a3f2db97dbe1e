"""Commands that read records: a record of another version is read by the schema that it announced."""

import click

from services.commands.base import settings_of
from services.edge import avro
from services.edge.kafka_schemas import SchemasTopic
from services.runtime.config import KafkaSettings


def ask_for_schemas() -> None:
    """Ask the cluster about unknown schemas until the present command ends."""
    before = avro.catalogue.ask
    avro.catalogue.ask = SchemasTopic(settings_of(KafkaSettings)).read
    click.get_current_context().call_on_close(lambda: setattr(avro.catalogue, "ask", before))
