"""Prints the portfolio as it stands: accounts and balance by currency, computed by Spark in one batch."""

import json
import os
import sys
import urllib.request
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.driver.memory", "1g")
    .config("spark.jars", os.environ["JARS"])
    # The default, 200, is for a cluster.
    .config("spark.sql.shuffle.partitions", 1)
    .config("spark.ui.enabled", False)
    .config("spark.ui.showConsoleProgress", False)
    .getOrCreate()
)


def schema(identifier):
    url = f"{os.environ['SCHEMA_REGISTRY_URL']}/schemas/ids/{identifier}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["schema"]
    except OSError as error:
        # "Connection refused" says not where.
        sys.exit(f"error: {url}: {error}")


records = (
    spark.read.format("kafka")
    .option("kafka.bootstrap.servers", os.environ["BOOTSTRAP_SERVERS"])
    .option("subscribe", os.environ.get("TOPIC_PREFIX", "cleargrid.d02.") + "accounts")
    # The default is read_uncommitted: it also gives what was rolled back.
    .option("kafka.isolation.level", "read_committed")
    .load()
)
accounts = (
    # Compaction runs now and then, so several versions of an account may be there: the last one holds. All records of a key stand
    # in one partition. In a struct, because max_by would pass over the nulls.
    records.groupBy("key").agg(F.max_by(F.struct("value"), "offset").alias("latest"))
    .select("latest.value")
    # A tombstone, only here: the account is gone, whatever was before.
    .where("value IS NOT NULL")
    # Before the Avro: a zero, and the id of the schema in four bytes.
    .select(
        F.conv(F.hex(F.substring("value", 2, 4)), 16, 10).cast("long").alias("schema_id"),
        F.expr("substring(value, 6, length(value) - 5)").alias("avro"),
    )
    # Every action would read Kafka again, up to another end.
    .cache()
)
# from_avro takes one schema, and a topic may hold records of several.
versions = [
    accounts.where(F.col("schema_id") == identifier)
    .select(from_avro("avro", schema(identifier)).alias("account"))
    .select("account.currency", "account.balance_amount")
    for (identifier,) in accounts.select("schema_id").distinct().collect()
]
if versions:
    # Null is not known, which is not 0; a report to people should say how many there are. A sum that is no long is an error (ANSI),
    # and a decimal has 38 digits.
    balance = F.sum(F.col("balance_amount").cast("decimal(19,0)"))
    totals = reduce(DataFrame.union, versions).groupBy("currency").agg(
        F.count("*").alias("accounts"), F.coalesce(balance, F.lit(0)).alias("balance_minor")
    )
    for row in totals.collect():
        print(json.dumps(row.asDict() | {"balance_minor": int(row.balance_minor)}))
spark.stop()
