"""Prints the portfolio as it stands: librdkafka reads the accounts, ClickHouse decodes and adds."""

import os
import sys
import tempfile

import chdb
import d02

QUERY = """
    -- A sum of Int64 may overflow, and ClickHouse would not say so. Null is not known, which is not 0; a report to people should say
    -- how many there are.
    SELECT currency, count() AS accounts, sum(toInt128(ifNull(balance_amount, 0))) AS balance_minor
    FROM file({path:String}, AvroConfluent, 'currency Nullable(String), balance_amount Nullable(Int64)')
    GROUP BY currency
    SETTINGS format_avro_schema_registry_url = {registry:String}, output_format_json_quote_64bit_integers = 0
"""


registry = os.environ["SCHEMA_REGISTRY_URL"]
# Compaction runs now and then, so several versions of an account may be there: the last one holds.
latest = {message.key(): message.value() for message in d02.read_to_end(d02.topic("accounts"))}

with tempfile.NamedTemporaryFile() as file:
    # A null value is a tombstone: the account is gone.
    file.writelines(value for value in latest.values() if value is not None)
    file.flush()
    # Each value has the id of its schema before it, and the format knows this frame.
    try:
        print(chdb.query(QUERY, "JSONEachRow", params={"path": file.name, "registry": registry}), end="")
    except RuntimeError as error:
        # "Connection refused: while fetching schema id" says not where.
        sys.exit(f"error: with the schemas of {registry}: {error}")
