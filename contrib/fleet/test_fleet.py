#!/usr/bin/env python3
"""The job and the queries, against counts that are made while the lists are generated.

IMACTL_FLEET=MACHINES,ENTRIES sets the size, IMACTL_FLEET_MASTER the masters of Spark, separated by spaces.
"""

import base64
import collections
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import imactl
import job
import queries
from pyspark.sql import SparkSession, functions

MACHINES, ENTRIES = (int(number) for number in os.environ.get("IMACTL_FLEET", "20,300").split(","))
MASTERS = os.environ.get("IMACTL_FLEET_MASTER", "local[2] local-cluster[2,1,1024]").split()
# few tasks, as each starts a Python worker
TASKS = 4 if MACHINES < 100 else None
NONCE = bytes(range(16))


def sized(data):
    return struct.pack("<I", len(data)) + data


class Machine:
    """A list as the kernel writes it, and the value of PCR 10 in the bank sha256."""

    def __init__(self):
        self.list, self.pcr = bytearray(), bytes(32)

    def measure(self, path, digest, key_id=None):
        fields = [b"sha256:\0" + digest, path.encode() + b"\0"]
        if key_id:
            fields.append(bytes([3, 2, 4]) + key_id + b"\0\1\0")
        template = b"ima-sig" if key_id else b"ima-ng"
        data = b"".join(map(sized, fields))
        self.list += struct.pack("<I", 10) + hashlib.sha1(data).digest() + sized(template) + sized(data)
        self.pcr = hashlib.sha256(self.pcr + hashlib.sha256(data).digest()).digest()


def quote(directory, key, pcr):
    """TPMS_ATTEST over PCR 10, and its signature, as tpm2_quote writes them."""
    attested = b"\xffTCG\x80\x18" + struct.pack(">H", 0) + struct.pack(">H", len(NONCE)) + NONCE
    attested += struct.pack(">QIIBQ", 1000, 1, 0, 1, 1)
    attested += struct.pack(">IHB", 1, 0x000B, 3) + bytes([0, 4, 0])
    attested += struct.pack(">H", 32) + hashlib.sha256(pcr).digest()
    (directory / "quote").write_bytes(attested)
    sign = ["openssl", "dgst", "-sha256", "-sign", key, directory / "quote"]
    signature = subprocess.run(sign, check=True, capture_output=True).stdout
    (directory / "signature").write_bytes(struct.pack(">HHH", 0x0014, 0x000B, len(signature)) + signature)


def session(master, **settings):
    """Spark, reachable from this machine alone; its Python workers find the modules of this process."""
    builder = SparkSession.builder.master(master).appName("fleet")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **settings,
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


class Fleet:
    """Machines, and what the queries should answer."""

    def __init__(self, root):
        self.root, self.input, self.manifest = root, root / "input", root / "manifest"
        self.digests = collections.defaultdict(set)
        self.first, self.unknown, self.keys = {}, collections.defaultdict(set), collections.Counter()
        self.disagree, self.unquoted, self.errors, self.rows = set(), set(), set(), 0
        self.broken = set()
        key, ak = root / "ak.key", root / "ak"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", ak], check=True, capture_output=True)
        self.ak = ak.read_bytes()
        files = {f"/usr/lib/file {number}": hashlib.sha256(b"%d" % number).digest() for number in range(ENTRIES)}
        with open(self.manifest, "w") as out:
            print(json.dumps({"type": "manifest", "version": 1}), file=out)
            for path, digest in files.items():
                print(json.dumps({"path": path, "digests": [f"sha256:{digest.hex()}"]}), file=out)
        measured = [(path.replace(" ", "_"), digest) for path, digest in files.items()]
        for number in range(MACHINES):
            self.generate(f"machine{number:06}", number, measured, key, ak)
        self.break_machines()

    def generate(self, name, number, measured, key, ak):
        directory, machine = self.input / name, Machine()
        directory.mkdir(parents=True)
        machine.measure("boot_aggregate", bytes(32))
        self.count(name, "boot_aggregate", bytes(32))
        for position, (path, digest) in enumerate(measured):
            if position == 1 + number % 7:
                path = f"/opt/tool{number % 3}"
                digest = hashlib.sha256(path.encode() if number % 2 else b"same").digest()
                self.unknown[path, digest.hex()].add(name)
            key_id = bytes([1, 2, 3, number % 4]) if position % 50 == 0 else None
            machine.measure(path, digest, key_id)
            self.count(name, path, digest, key_id)
        proven = machine.pcr
        if number % 10 == 3:
            # an entry that the PCR does not have
            proven = bytes(32)
            self.disagree.add(name)
        elif number % 10 == 5:
            del machine.list[-3:]
            self.errors.add(name)
            self.disagree.add(name)
            self.forget(name, measured[-1])
        (directory / "list").write_bytes(machine.list)
        (directory / "pcrs").write_text(f"sha256:\n  10: 0x{proven.hex()}\n")
        (directory / "nonce").write_text(NONCE.hex())
        (directory / "ak").write_bytes(ak.read_bytes())
        # a quote over another value
        quote(directory, key, machine.pcr if number % 10 != 7 else bytes(32))
        if number % 10 == 9:
            (directory / "quote").unlink()
            self.unquoted.add(name)
        if number % 10 == 7:
            self.disagree.add(name)
        self.rows += len(measured) + 1

    def break_machines(self):
        """Machines whose files are not what they should be: each is one row with an error and no other row."""
        measured = Machine()
        measured.measure("/bin/sh", bytes(32))
        record, pcrs = bytes(measured.list), f"sha256:\n  10: 0x{measured.pcr.hex()}\n".encode()
        huge = struct.pack("<I", 10) + bytes(20) + sized(b"ima-ng") + struct.pack("<I", 0xFFFFFFF0)
        for name, files in {
            "noise": {"list": hashlib.sha512(b"noise").digest() * 100},
            "zeros": {"list": bytes(1 << 20)},
            "huge": {"list": huge},
            "cel": {"list": b'[{"recnum": 0, "pcr": 10, "digests": ['},
            "ascii": {"list": b"10 not-hexadecimal ima-ng sha256:00 /bin/sh\n"},
            "nothing": {},
            "boot-name": {"list": record, "boot": b"\xff\xfe"},
            "pcrs": {"list": record, "pcrs": b"\xff\0 PCR"},
            "nonce": {"list": record, "pcrs": pcrs, "quote": b"", "signature": b"", "ak": b"", "nonce": b"zz"},
            "key": {"list": record, "pcrs": pcrs, "quote": b"", "signature": b"", "ak": b"no key"},
            "quote": {"list": record, "pcrs": pcrs, "quote": b"\xffTCG", "signature": b"", "ak": self.ak},
            "parts": {"list": record, "pcrs": pcrs, "quote": b"\xffTCG"},
        }.items():
            directory = self.input / f"broken-{name}"
            directory.mkdir()
            for file, content in files.items():
                (directory / file).write_bytes(content)
            self.errors.add(directory.name)
            self.broken.add(directory.name)
        (self.input / "broken-directory" / "list").mkdir(parents=True)
        self.errors.add("broken-directory")
        self.broken.add("broken-directory")

    def count(self, name, path, digest, key_id=None):
        self.digests[digest.hex()].add((name, path))
        self.first.setdefault(digest.hex(), (name, path))
        if key_id:
            self.keys[key_id.hex(), name] += 1

    def forget(self, name, last):
        """The last entry of a machine cannot be read."""
        path, digest = last
        self.digests[digest.hex()].discard((name, path))


class FleetTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.fleet = Fleet(pathlib.Path(cls.directory.name))

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def test_answers_equal_a_count(self):
        for master in MASTERS:
            with self.subTest(master=master):
                self.check(master)

    def check(self, master):
        fleet, spark = self.fleet, session(master, **{"spark.sql.shuffle.partitions": "4"})
        try:
            start = time.monotonic()
            table = str(fleet.root / f"table-{master.split('[')[0]}")
            rows = job.verify_fleet(spark, fleet.input.as_uri(), [], [str(fleet.manifest)], TASKS)
            rows = rows.withColumn("date", functions.lit("2026-01-01"))
            rows.write.partitionBy("date").parquet(table)
            seconds = time.monotonic() - start
            print(f"{master}: {fleet.rows} entries in {seconds:.1f} s", file=sys.stderr)
            self.compare(spark, table)
        finally:
            spark.stop()

    def compare(self, spark, table):
        fleet = self.fleet

        def ask(name, digest=""):
            return queries.answer(spark, table, name, digest).collect()

        entries = spark.read.parquet(table).where("type = 'entry'").count()
        # a list without its end has one entry less
        self.assertEqual(entries, fleet.rows - len(fleet.errors - fleet.broken))
        rows = spark.read.parquet(table).where("machine LIKE 'broken-%'").collect()
        self.assertEqual({row.machine: row.type for row in rows}, {machine: "error" for machine in fleet.broken})
        self.assertEqual(len(rows), len(fleet.broken))
        for digest in (hashlib.sha256(b"same").hexdigest(), hashlib.sha256(b"1").hexdigest()):
            found = {(row.machine, row.path) for row in ask("digest", digest)}
            self.assertEqual(found, fleet.digests[digest])
        first = {row.digest: (row.machine, row.path) for row in ask("first-seen")}
        self.assertEqual(first, fleet.first)
        unknown = {(row.path, row.digest): row.machines for row in ask("unknown")}
        self.assertEqual(unknown, {file: len(machines) for file, machines in fleet.unknown.items()})
        self.assertEqual({row.machine for row in ask("disagree")}, fleet.disagree)
        unproven = {row.machine for row in ask("unproven")}
        self.assertEqual(unproven, fleet.disagree | fleet.unquoted | fleet.broken)
        self.assertEqual({row.machine for row in ask("errors")}, fleet.errors)
        keys = collections.Counter()
        for (key_id, _), entries in fleet.keys.items():
            keys[key_id] += entries
        self.assertEqual({row.key_id: row.entries for row in ask("keys")}, dict(keys))


class ManifestTest(unittest.TestCase):
    """Signed manifests, with envelopes made here by OpenSSL."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        for name in ("release", "other"):
            make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
            make += ["-keyout", self.root / f"{name}.key", "-out", self.root / f"{name}.pem"]
            subprocess.run(make, check=True, capture_output=True)

    def envelope(self, name="manifest", **changes):
        digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        predicate = {"version": 1, "files": [{"path": "/usr/bin/x", "digests": [digest]}]}
        statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": predicate}
        statement["predicateType"] = changes.get("predicate_type", "urn:imactl:manifest:v1")
        kind, payload = b"application/vnd.in-toto+json", json.dumps(statement).encode()
        message = self.root / "message"
        message.write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
        sign = ["openssl", "dgst", "-sha256", "-sign", self.root / "release.key", message]
        signature = subprocess.run(sign, check=True, capture_output=True).stdout
        payload = payload.replace(b"bin", b"lib") if changes.get("changed") else payload
        signatures = [{"keyid": "", "sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}]
        made = {"payloadType": kind.decode(), "payload": base64.b64encode(payload).decode(), "signatures": signatures}
        path = self.root / name
        path.write_text(json.dumps(made) + "\n")
        return path

    def test_only_trusted_keys_are_accepted(self):
        path, release = self.envelope(), self.root / "release.pem"
        self.assertIsNotNone(imactl.read_manifest(path, certificates=[self.root / "other.pem", release]))
        unsigned = self.root / "unsigned"
        unsigned.write_text('{"type": "manifest", "version": 1}\n')
        self.assertIsNotNone(imactl.read_manifest(unsigned))
        for wrong, certificates in [
            (path, []),
            (path, [self.root / "other.pem"]),
            (unsigned, [release]),
            (self.envelope("changed", changed=True), [release]),
            (self.envelope("type", predicate_type="urn:other"), [release]),
        ]:
            with self.assertRaises(ValueError, msg=f"{wrong} {certificates}"):
                imactl.read_manifest(wrong, certificates=certificates)


if __name__ == "__main__":
    result = unittest.main(exit=False, warnings="ignore").result
    failed = len(result.failures) + len(result.errors)
    # as cargo test prints it, for cargo xtask test
    print(f"test result: {result.testsRun - bool(failed)} passed; {failed} failed")
    sys.exit(bool(failed))
