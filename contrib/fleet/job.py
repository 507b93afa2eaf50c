#!/usr/bin/env python3
"""Verifies the measurement lists of a fleet with Apache Spark, and writes a table as Parquet.

Each machine is one call of the module imactl in one task. See README.md for the input and for clusters.
"""

import argparse
import datetime
import pathlib
import tempfile

import imactl
from pyarrow import fs
from pyspark.sql import SparkSession, functions
from pyspark.sql.pandas.types import from_arrow_schema

# Opened once per Python worker, which runs many tasks.
_opened = {}


def once(key, read):
    if key not in _opened:
        _opened[key] = read()
    return _opened[key]


def verify_machine(uri, name, keyring, manifest):
    """Copies the files of a machine, verifies its list, and yields record batches."""
    filesystem, root = fs.FileSystem.from_uri(uri)
    with tempfile.TemporaryDirectory() as copy:
        fs.copy_files(f"{root}/{name}", copy, source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())
        files = pathlib.Path(copy)
        given = {file.name: file for file in files.iterdir()}
        segments = sorted(file for file in files.iterdir() if file.name == "list" or file.name.startswith("list."))

        def text(name):
            return given[name].read_text().strip() if name in given else None

        quote = {part: given.get(part) for part in ("quote", "signature", "ak")} if "quote" in given else {}
        yield from imactl.verify(
            segments or [files / "list"],
            machine=name,
            boot=text("boot"),
            pcrs=[given["pcrs"]] if "pcrs" in given else [],
            nonce=bytes.fromhex(text("nonce") or ""),
            keyring=keyring,
            manifest=manifest,
            **quote,
        )


def verifier(uri, certificates, manifests, signers):
    """The function that tasks run: names of machines to rows."""

    def verify(batches):
        keyring = once("keyring", lambda: imactl.Keyring(certificates)) if certificates else None
        manifest = once("manifest", lambda: imactl.read_manifest(*manifests, certificates=signers)) if manifests else None
        for batch in batches:
            for name in batch.column("machine").to_pylist():
                try:
                    yield from verify_machine(uri, name, keyring, manifest)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    # of this machine's files; a row, not the end of the job
                    yield imactl.error_batch(name, f"{type(error).__name__}: {error}")

    return verify


def verify_fleet(spark, uri, certificates, manifests, tasks=None, signers=()):
    """A data frame with the rows of all machines below `uri`."""
    filesystem, root = fs.FileSystem.from_uri(uri)
    found = filesystem.get_file_info(fs.FileSelector(root))
    names = sorted(info.base_name for info in found if info.type == fs.FileType.Directory)
    # small tasks: machines differ in size by a factor of 100
    tasks = tasks or max(1, min(len(names), 16 * spark.sparkContext.defaultParallelism))
    rows = spark.sparkContext.parallelize([(name,) for name in names], tasks)
    machines = spark.createDataFrame(rows, "machine string")
    return machines.mapInArrow(verifier(uri, certificates, manifests, signers), from_arrow_schema(imactl.SCHEMA))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help="URI of a directory with a directory for each machine")
    parser.add_argument("output", help="path or URI of the table")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="partition [default: today]")
    parser.add_argument("--cert", action="append", default=[], help="certificate of a key that signs files")
    parser.add_argument("--manifest", action="append", default=[], help="manifest of the files that are expected")
    parser.add_argument(
        "--manifest-cert", action="append", default=[], help="certificate of a key that must have signed the manifests"
    )
    parser.add_argument("--tasks", type=int, help="number of tasks [default: 16 per core]")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("imactl").getOrCreate()
    # a second run replaces the partition of its date only
    spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
    rows = verify_fleet(spark, args.input, args.cert, args.manifest, args.tasks, args.manifest_cert)
    rows.withColumn("date", functions.lit(args.date)).write.mode("overwrite").partitionBy("date").parquet(args.output)
    spark.stop()


if __name__ == "__main__":
    main()
