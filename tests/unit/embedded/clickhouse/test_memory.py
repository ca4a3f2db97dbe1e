"""Concurrent inserts and merges fit into the embedded engine's memory limit."""

import re
from pathlib import Path

from weir.core.resource_paths import MIGRATIONS
from weir.embedded.clickhouse.engine_config import write_config
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.sink import SinkSettings
from weir.sink.migrations import read_migrations

MERGED_PART_BYTES = (
    40_000_000  # a usual block of wide rows; larger ones were seen: docs/decisions/0018-any-json.md
)


def parts_of_a_merge() -> int:
    sql = "\n".join(migration.sql for migration in read_migrations(MIGRATIONS))
    (*_, last) = re.findall(r"max_parts_to_merge_at_once = (\d+)", sql)
    return int(last)


def test_concurrent_inserts_and_merges_fit_into_the_engines_memory_limit(tmp_path: Path) -> None:
    sink, engine = SinkSettings(), WarehouseSettings()
    config = write_config(tmp_path, engine, "weir").read_text()
    (ratio,) = re.findall(r"<background_merges_mutations_concurrency_ratio>(\d+)<", config)
    inserts = sink.sink_insert_threads * sink.sink_insert_memory
    merges = int(ratio) * engine.warehouse_merge_threads * parts_of_a_merge() * MERGED_PART_BYTES
    assert sink.sink_flush_expanded_bytes < sink.sink_insert_memory
    assert inserts + merges < engine.warehouse_max_memory
