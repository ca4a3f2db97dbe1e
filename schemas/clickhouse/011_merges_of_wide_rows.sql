-- A merge holds a block of each of its parts in memory, some 40 MB of rows with thousands of names of
-- their own: docs/wide-names.md.
ALTER TABLE {{database}}.events {{cluster}} MODIFY SETTING max_parts_to_merge_at_once = 8;
