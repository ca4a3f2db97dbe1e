"""Lets commands read records of other Weir versions, with the schemas that those versions announced."""

import click

from weir.adapters import avro
from weir.adapters.kafka.schema_announcements import SchemasTopic
from weir.cli.base import settings_of
from weir.settings.shared import KafkaSettings


def ask_for_schemas() -> None:
    """Read unknown schemas from the cluster, until the current command ends."""
    before = avro.catalogue.ask
    avro.catalogue.ask = SchemasTopic(settings_of(KafkaSettings)).read
    click.get_current_context().call_on_close(lambda: setattr(avro.catalogue, "ask", before))
