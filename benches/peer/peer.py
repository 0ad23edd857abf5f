"""D02 into Kafka as a program of a day's work does it: transactions, Avro, a cursor in the same transaction. What the source is measured
beside (`cargo bench --bench end_to_end -- peer`).

Made to be fast with the usual packages: the next page is fetched while one is encoded, orjson and fastavro are compiled, librdkafka
sends. It leaves out what the source does beside that: no look at what is held already, no digest, no verified pages, no
dead letters, no ranges, no second attempt.
"""

import argparse
import io
import os
import queue
import threading
from datetime import date, datetime

import fastavro
import httpx
import orjson
from confluent_kafka import Producer

EPOCH = date(1970, 1, 1).toordinal()
COPIED = (
    "account_reference_id", "customer_reference_id", "reference_id", "total_amount", "balance_amount", "actual_balance_amount",
    "paid_amount", "balance_principal_amount", "balance_interest", "balance_fee", "minimum_due_amount", "currency",
    "submitted_date", "due_date", "delinquent_days_on_submission", "merchant_name", "lender_display_name",
)
KNOWN = frozenset(COPIED) | {"public_id", "loan_type", "status", "created_at", "updated_at"}


def options():
    parser = argparse.ArgumentParser()
    for name in ("base-url", "lender", "email", "bootstrap-servers", "registry", "schema", "accounts", "cursor"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def days(text):
    """Days since 1970-01-01 of DD/MM/YYYY; None where that is no real day."""
    try:
        return date(int(text[6:]), int(text[3:5]), int(text[:2])).toordinal() - EPOCH
    except (TypeError, ValueError):
        return None


def milliseconds(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else None


def account(row, lender):
    fields = {name: row.get(name) for name in COPIED}
    fields["public_id"] = row["public_id"]
    fields["lender_public_id"] = lender
    fields["submitted_date_parsed"] = days(row.get("submitted_date"))
    fields["due_date_parsed"] = days(row.get("due_date"))
    for name in ("loan_type", "status"):
        value = row.get(name)
        is_code = isinstance(value, int)
        fields[name] = str(value) if is_code else value
        fields[f"{name}_unmapped_code"] = value if is_code else None
    fields["created_at"] = milliseconds(row.get("created_at"))
    fields["updated_at"] = milliseconds(row["updated_at"])
    others = {name: value for name, value in row.items() if name not in KNOWN}
    fields["extra"] = orjson.dumps(others, option=orjson.OPT_SORT_KEYS).decode() if others else None
    return fields


class Upstream:
    def __init__(self, options):
        self.client = httpx.Client(base_url=options.base_url, timeout=60)
        login = {"email": options.email, "password": os.environ["PEER_PASSWORD"]}
        answer = self.client.post(f"/admin/auth/{options.lender}/login", json=login)
        self.lender = answer.raise_for_status().json()["lenderPublicId"]
        self.client.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def pages(self):
        """Rows and next cursor of one page after the other, fetched by a thread that is up to four pages ahead."""
        fetched = queue.Queue(4)

        def fetch():
            cursor, path = None, f"/admin/v3/lenders/{self.lender}/exports/S1/D02"
            while True:
                asked = {"limit": 1000, "sort": "asc"} | ({"cursor": cursor} if cursor else {})
                answer = self.client.get(path, params=asked)
                body = orjson.loads(answer.raise_for_status().content)["body"]
                cursor = body["pagination"]["nextCursor"]
                fetched.put((body["rows"], cursor))
                if cursor is None:
                    return

        threading.Thread(target=fetch, daemon=True).start()
        while True:
            rows, cursor = fetched.get()
            yield rows, cursor
            if cursor is None:
                return


def main():
    asked = options()
    with open(asked.schema, "rb") as file:
        text = file.read().decode()
    schema = fastavro.parse_schema(orjson.loads(text))
    registered = httpx.post(f"{asked.registry}/subjects/{asked.accounts}-value/versions", json={"schema": text}, timeout=60)
    frame = b"\x00" + registered.raise_for_status().json()["id"].to_bytes(4, "big")
    upstream = Upstream(asked)
    producer = Producer({
        "bootstrap.servers": asked.bootstrap_servers,
        "transactional.id": f"peer-{asked.accounts}",
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 250_000,
    })
    producer.init_transactions(60)
    pages_a_transaction, lender = 20, upstream.lender
    row_count = page_count = 0
    for rows, cursor in upstream.pages():
        if page_count % pages_a_transaction == 0:
            producer.begin_transaction()
        for row in rows:
            fields = account(row, lender)
            value = io.BytesIO()
            value.write(frame)
            fastavro.schemaless_writer(value, schema, fields)
            headers = [("__op", "r"), ("__source_ts_ms", str(fields["updated_at"])), ("d02.lender", lender)]
            producer.produce(asked.accounts, value.getvalue(), fields["public_id"], headers=headers)
        producer.poll(0)
        row_count += len(rows)
        page_count += 1
        if page_count % pages_a_transaction == 0 or cursor is None:
            producer.produce(asked.cursor, orjson.dumps({"cursor": cursor, "rows": row_count}), asked.lender)
            producer.commit_transaction(60)
    print(row_count)


main()
