-- Weir's two users on a ClickHouse server of your own. Put passwords of your own in, then, as somebody
-- who may manage access: clickhouse-client --multiquery < users.sql
--
-- `weir` is what WEIR_CLICKHOUSE_USER names: it makes Weir's tables and writes their rows.
-- `weir_reader` is for analysts: it reads Weir's database and nothing else; not the table `erasing`
-- either, which names people while they are being erased. In read-only mode it
-- cannot change a setting, so its limits hold. Without grants on SOURCES the server refuses file(),
-- url(), remote(), s3(), mysql() and the like, without CREATE TEMPORARY TABLE executable() too.
-- What no grant guards is the function file(path), which reads the files in the server's
-- user_files_path: keep nothing there that analysts may not read.
-- Of others' queries the reader sees nothing: the server has to ask for grants on its database `system`,
-- as the packages' config.xml and access.xml (beside this file) have it, and if it does not, the row
-- policies below hide the tables that hold queries or errors.
--
-- Checked (tests/contract/test_users_sql.py), with the embedded engine, 26.9: it parses every statement;
-- with the operating role's grants alone all of Weir's tables are made; with the reading role's and the
-- profile, tables and views are read, and the functions above, writes and settings refused. Not
-- checked: that a server keeps the users and asks for their passwords, and ON CLUSTER, for which `weir`
-- needs GRANT CLUSTER ON *.* too. A server with table_engines_require_grant wants GRANT TABLE ENGINE.

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
