"""Writes the engine's configuration files: memory, background threads, and what SQL may access."""

import os
from pathlib import Path

from weir.settings.embedded_clickhouse import WarehouseSettings

_SERVER = """<clickhouse>
    <max_server_memory_usage>{memory}</max_server_memory_usage>
    <mark_cache_size>{marks}</mark_cache_size>
    <index_mark_cache_size>{marks}</index_mark_cache_size>
    <primary_index_cache_size>{marks}</primary_index_cache_size>
    <query_condition_cache_size>{marks}</query_condition_cache_size>
    <background_pool_size>{merges}</background_pool_size>
    <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>
    <storage_configuration><disks><default>
        <keep_free_space_bytes>{kept_free}</keep_free_space_bytes>
    </default></disks></storage_configuration>
    <merge_tree>
        <min_free_disk_bytes_to_perform_insert>{kept_free}</min_free_disk_bytes_to_perform_insert>
    </merge_tree>
    <users_config>{users}</users_config>
</clickhouse>
"""
# Merges are limited by their number, one per thread (the engine's default is two), and by the parts of
# each: docs/decisions/0018-any-json.md. The embedded engine does not count the memory of merges
# separately, so merges_mutations_memory_usage_soft_limit stops none.
#
# On a nearly full disk inserts and merges are refused before one of them runs out of space half way: that
# has left a part with an empty marks file.
_KEPT_FREE_BYTES = 32 << 20

# In this process, the engine would let any query read and write the files of the machine and open
# connections from it, so SOURCES is revoked. A dictionary over the engine's own tables needs no SOURCES.
# implicit_select (`1+1` is a query) is a default of the embedded engine, not of a server.
# async_insert would acknowledge a batch that is in another block than its own.
# json_type_escape_dots_in_keys: the name "a.b" is shown as it was sent, not as a%2Eb.
# The engine has one user; a reader is that user with only the role `reader`. Readers may not read
# `erasing`, which names the people that are being erased.
_USERS = """<clickhouse>
    <profiles><default>
        <implicit_select>0</implicit_select>
        <async_insert>0</async_insert>
        <json_type_escape_dots_in_keys>1</json_type_escape_dots_in_keys>
        <max_threads>{threads}</max_threads>
    </default></profiles>
    <quotas><default/></quotas>
    <roles>
        <operator><grants>
            <query>GRANT ALL ON *.*</query>
            <query>REVOKE SOURCES, INTROSPECTION ON *.*</query>
        </grants></operator>
        <{reader}><grants>
            <query>GRANT SELECT, dictGet ON {database}.*</query>
            <query>REVOKE SELECT ON {database}.erasing</query>
        </grants></{reader}>
    </roles>
    <users><default>
        <password></password>
        <networks><ip>::/0</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
        <grants><query>GRANT operator, {reader}</query></grants>
    </default></users>
</clickhouse>
"""
READER_ROLE = "reader"


def write_config(folder: Path, settings: WarehouseSettings, database: str) -> Path:
    """Write both files atomically, readable by their owner only; return the path of the server's file.

    `database`: the one that a reader may read.
    """
    users = _write(
        folder / "users.xml",
        _USERS.format(
            threads=settings.warehouse_max_threads,
            reader=READER_ROLE,
            database=_escaped("`" + database.replace("`", "\\`") + "`"),
        ),
    )
    server = _SERVER.format(
        memory=settings.warehouse_max_memory,
        marks=settings.warehouse_mark_cache,
        merges=settings.warehouse_merge_threads,
        kept_free=_KEPT_FREE_BYTES,
        users=_escaped(users),
    )
    return _write(folder / "config.xml", server)


def _write(path: Path, content: str) -> Path:
    path = path.resolve()
    temporary = path.with_suffix(".new")
    temporary.write_text(content, encoding="utf-8")
    temporary.chmod(0o600)
    os.replace(temporary, path)
    return path


def _escaped(text: Path | str) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;")
