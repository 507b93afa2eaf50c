"""Measurement lists of IMA, verified: Arrow record batches with a verdict on each entry.

The columns are those of `imactl log convert --to parquet` (docs/measurement.md, "Tables").
"""

import json
import os

import pyarrow

from imactl._imactl import Keyring, Manifest, columns, verify_list

__all__ = ["Keyring", "Manifest", "SCHEMA", "error_batch", "read_manifest", "verify"]

_TYPES = {
    "text": pyarrow.string(),
    "bytes": pyarrow.binary(),
    "number": pyarrow.int64(),
    "flag": pyarrow.bool_(),
}

SCHEMA = pyarrow.schema([(name, _TYPES[kind]) for name, kind in columns()])


def read_manifest(*paths):
    """Reads manifests of `imactl manifest create`. Signatures are not verified: use `imactl manifest merge`."""
    manifest = Manifest()
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            head = json.loads(next(lines, "null"))
            if head != {"type": "manifest", "version": 1}:
                raise ValueError(f"{path}: not a manifest of version 1 (is it signed?)")
            for line in lines:
                file = json.loads(line)
                raw = file.get("path_bytes")
                name = bytes.fromhex(raw) if raw else file["path"].encode()
                manifest.add(name, file["digests"])
    return manifest


def verify(
    segments, *, machine=None, boot=None, pcrs=(), quote=None, signature=None, ak=None, nonce=b"", keyring=None,
    manifest=None,
):
    """Verifies the list of a machine, given as the paths of its segments; yields record batches.

    `pcrs` are files with PCR values; `quote`, `signature` and `ak` are the files of tpm2_quote and
    tpm2_createak. An error in a file does not raise: it is the last row, of type `error`.
    """
    if quote is not None and None in (signature, ak):
        raise ValueError("a quote needs its signature and the attestation key (ak)")
    given = None if quote is None else (os.fspath(quote), os.fspath(signature), os.fspath(ak), nonce)
    paths = [os.fspath(path) for path in segments]
    values = [os.fspath(path) for path in pcrs]
    for rows, parts in verify_list(paths, machine, boot, values, given, keyring, manifest):
        arrays = []
        for field, (nulls, buffers) in zip(SCHEMA, parts):
            buffers = [pyarrow.py_buffer(buffer) for buffer in buffers]
            arrays.append(pyarrow.Array.from_buffers(field.type, rows, buffers, null_count=nulls))
        yield pyarrow.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def error_batch(machine, error):
    """A record batch of one row: an error about a machine."""
    row = {name: None for name in SCHEMA.names}
    row.update(machine=machine, type="error", violation=False, error=error)
    return pyarrow.RecordBatch.from_pylist([row], schema=SCHEMA)
