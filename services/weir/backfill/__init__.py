"""The rebuilding of ClickHouse from the topics: `weir replay`."""
