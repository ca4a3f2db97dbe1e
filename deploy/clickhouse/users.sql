-- Weir's two users for a ClickHouse server of your own. Set passwords, then run, as a user with access
-- management: clickhouse-client --multiquery < users.sql
--
-- `weir` (WEIR_CLICKHOUSE_USER) creates Weir's tables and writes their rows.
-- `weir_reader` is for analysts. It reads Weir's database and nothing else, and not the table `erasing`,
-- which names people while they are being erased. It is read-only: it cannot change a setting, so its
-- limits hold. Without grants on SOURCES the server refuses file(), url(), remote(), s3(), mysql() and the
-- like; without CREATE TEMPORARY TABLE it refuses executable().
-- No grant protects against the function file(path), which reads the files in the server's
-- user_files_path: keep nothing there that analysts may not read.
-- The reader sees nothing of other users' queries if the server checks grants on its database `system`,
-- as the packages' config.xml and access.xml (beside this file) do. If it does not, the row policies below
-- hide the tables that contain queries or errors.
--
-- Tested with the embedded engine, 26.9 (tests/contract/adapters/clickhouse/test_users_sql.py): it parses
-- every statement; the operating role's grants suffice to create all of Weir's tables; the reading role can
-- read tables and views, and is refused the functions above, writes and settings. Not tested: that a server
-- keeps the users and asks for their passwords, and ON CLUSTER, for which `weir` also needs
-- GRANT CLUSTER ON *.*. A server with table_engines_require_grant needs GRANT TABLE ENGINE.

CREATE DATABASE IF NOT EXISTS weir;

CREATE ROLE IF NOT EXISTS weir_operating;
GRANT SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE, OPTIMIZE, SHOW, dictGet ON weir.* TO weir_operating;
CREATE USER IF NOT EXISTS weir IDENTIFIED WITH sha256_password BY 'change-me';
GRANT weir_operating TO weir;

CREATE SETTINGS PROFILE IF NOT EXISTS weir_reader SETTINGS
    readonly = 1,
    max_execution_time = 60,
    max_memory_usage = 2000000000,
    max_result_bytes = 268435456,
    json_type_escape_dots_in_keys = 1;
CREATE ROLE IF NOT EXISTS weir_reading SETTINGS PROFILE 'weir_reader';
GRANT SELECT, dictGet ON weir.* TO weir_reading;
REVOKE SELECT ON weir.erasing FROM weir_reading;
CREATE USER IF NOT EXISTS weir_reader IDENTIFIED WITH sha256_password BY 'change-me-too';
GRANT weir_reading TO weir_reader;

CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.errors USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.processes USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.query_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.query_thread_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.query_views_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.query_metric_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.text_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.trace_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.crash_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.session_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.part_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.asynchronous_insert_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.asynchronous_inserts USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.processors_profile_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.opentelemetry_span_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.stack_trace USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.error_log USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.schema_inference_cache USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.query_cache USING 0 TO weir_reading;
CREATE ROW POLICY IF NOT EXISTS weir_reader ON system.mutations USING 0 TO weir_reading;
