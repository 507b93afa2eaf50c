"""Measurement lists of IMA, verified: Arrow record batches with a verdict on each entry.

The columns are those of `imactl log convert --to parquet` (docs/measurement.md, "Tables").
"""

import base64
import json
import os

import pyarrow

from imactl._imactl import Keyring, Manifest, columns, is_signed, verify_list

__all__ = ["Keyring", "Manifest", "SCHEMA", "error_batch", "read_manifest", "verify"]

_TYPES = {
    "text": pyarrow.string(),
    "bytes": pyarrow.binary(),
    "number": pyarrow.int64(),
    "flag": pyarrow.bool_(),
}

SCHEMA = pyarrow.schema([(name, _TYPES[kind]) for name, kind in columns()])


def read_manifest(*paths, certificates=()):
    """Reads manifests of `imactl manifest create`.

    With `certificates` (paths of PEM or DER files) each manifest must be signed by the key of one of them, as
    `imactl manifest create --key` does it. A signed manifest is only read with certificates.
    """
    manifest = Manifest()
    for path in paths:
        with open(path, "rb") as content:
            for file in _files(path, content.read(), [os.fspath(path) for path in certificates]):
                raw = file.get("path_bytes")
                name = bytes.fromhex(raw) if raw else file["path"].encode()
                manifest.add(name, file["digests"])
    return manifest


def _files(path, content, certificates):
    """The files of a manifest, in an envelope or not."""
    head, *lines = content.split(b"\n")
    first = json.loads(head or b"null")
    if isinstance(first, dict) and "payloadType" in first:
        return _opened(path, first, certificates)
    if certificates:
        raise ValueError(f"{path}: not signed (imactl manifest merge --key signs it)")
    if first != {"type": "manifest", "version": 1}:
        raise ValueError(f"{path}: not a manifest of version 1")
    return [json.loads(line) for line in lines if line]


def _opened(path, envelope, certificates):
    """The files in an envelope (DSSE) that is signed by the key of one of the certificates."""
    if not certificates:
        raise ValueError(f"{path}: signed: give the certificate of its key (certificates=, --manifest-cert)")
    payload = _decoded(envelope["payload"])
    signatures = [_decoded(signature["sig"]) for signature in envelope["signatures"]]
    if not is_signed(envelope["payloadType"], payload, signatures, certificates):
        raise ValueError(f"{path}: not signed by a trusted key")
    statement = json.loads(payload)
    found = (envelope["payloadType"], statement["_type"], statement["predicateType"], statement["predicate"]["version"])
    if found != _STATEMENT:
        raise ValueError(f"{path}: not a manifest of version 1 in its envelope")
    return statement["predicate"]["files"]


_STATEMENT = ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1", "urn:imactl:manifest:v1", 1)


def _decoded(text):
    """Base64 of the standard alphabet or the one for URLs, with or without padding, as DSSE allows."""
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


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
