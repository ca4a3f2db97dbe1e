"""Put rows that ClickHouse has lost back from the topics (`weir replay`)."""
