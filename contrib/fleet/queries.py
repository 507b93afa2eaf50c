#!/usr/bin/env python3
"""Answers questions about a fleet from the table that job.py writes."""

import argparse

from pyspark.sql import SparkSession

QUERIES = {
    "digest": """
        -- the machines that ran a file with this digest
        SELECT machine, path, min(date) AS first, max(date) AS last FROM entries
        WHERE type = 'entry' AND digest = :digest GROUP BY machine, path ORDER BY machine, path""",
    "first-seen": """
        -- where each digest was seen first, or the one that is given
        SELECT digest, first.date, first.machine, first.path FROM (
            SELECT digest, min(struct(date, machine, index, path)) AS first FROM entries
            WHERE type = 'entry' AND digest IS NOT NULL AND (:digest = '' OR digest = :digest) GROUP BY digest)
        ORDER BY first.date, first.machine, digest""",
    "unknown": """
        -- files that are not in the manifest or have another digest there, by number of machines
        SELECT path, digest, fit, count(DISTINCT machine) AS machines FROM entries
        WHERE fit <> 'expected' GROUP BY path, digest, fit ORDER BY machines DESC, path, digest""",
    "disagree": """
        -- machines whose list and PCRs or quote disagree, and why
        SELECT date, machine, type, pcr, algorithm, index, verdict, error FROM entries
        WHERE type = 'pcr' AND verdict = 'mismatch' OR type = 'quote' AND verdict <> 'valid'
        ORDER BY date, machine, type, pcr, algorithm""",
    "unproven": """
        -- machines without a valid quote, or of which no PCR matches, for whatever reason
        SELECT date, machine, max(CASE WHEN type = 'error' THEN error END) AS error FROM entries
        GROUP BY date, machine
        HAVING NOT (bool_or(type = 'pcr' AND verdict = 'match') AND bool_or(type = 'quote' AND verdict = 'valid'))
        ORDER BY date, machine""",
    "errors": """
        -- lists and other files that could not be read
        SELECT date, machine, index, error FROM entries WHERE type = 'error' ORDER BY date, machine""",
    "keys": """
        -- the keys in use, by the verdict on their signatures
        SELECT key_id, verdict, count(DISTINCT machine) AS machines, count(*) AS entries FROM entries
        WHERE key_id IS NOT NULL GROUP BY key_id, verdict ORDER BY machines DESC, key_id, verdict""",
}


def answer(spark, table, name, digest=""):
    """A data frame with the answer."""
    spark.read.parquet(table).createOrReplaceTempView("entries")
    uses_digest = ":digest" in QUERIES[name]
    return spark.sql(QUERIES[name], args={"digest": digest} if uses_digest else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="path or URI of the table")
    parser.add_argument("query", choices=sorted(QUERIES))
    parser.add_argument("digest", nargs="?", default="", help="in hexadecimal digits, for digest and first-seen")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("imactl queries").getOrCreate()
    answer(spark, args.table, args.query, args.digest.lower()).show(1000, truncate=False)
    spark.stop()


if __name__ == "__main__":
    main()
