"""Signatures of version 3 by another library than imactl's: PyPI's cryptography.

peer.py sign KEY HASH TYPE FILE     writes FILE.sig with KEY (PEM), over FILE's digest (type 6: that of fsverity)
peer.py verify CERT HASH TYPE FILE  verifies FILE.sig with CERT (DER)
peer.py verify-content CERT SIGNATURE FILE  verifies an ML-DSA signature over FILE itself
peer.py issue CAKEY CACERT SET DIR  makes an ML-DSA key DIR/SET.key, and its certificate DIR/SET.der by that CA
"""

import base64
import datetime
import hashlib
import pathlib
import subprocess
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa

NUMBERS = {"sha1": 2, "sha256": 4, "sha384": 5, "sha512": 6}
HASHES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
SETS = {"ml-dsa-44": mldsa.MLDSA44PrivateKey, "ml-dsa-65": mldsa.MLDSA65PrivateKey, "ml-dsa-87": mldsa.MLDSA87PrivateKey}


def file_id(name, kind, path):
    if kind == 6:
        command = ["fsverity", "digest", "--compact", "--hash-alg", name, path]
        digest = bytes.fromhex(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    else:
        digest = hashlib.new(name, pathlib.Path(path).read_bytes()).digest()
    return bytes([kind, NUMBERS[name]]) + digest


def arguments(public, name):
    if isinstance(public, rsa.RSAPublicKey):
        return (padding.PKCS1v15(), HASHES[name]())
    if isinstance(public, ec.EllipticCurvePublicKey):
        return (ec.ECDSA(HASHES[name]()),)
    return ()


def private_key(path):
    text = pathlib.Path(path).read_bytes()
    try:
        return serialization.load_pem_private_key(text, None)
    except ValueError:
        # RFC 9881: OpenSSL writes seed and expanded key, this library reads the seed alone
        der = base64.b64decode(b"".join(text.splitlines()[1:-1]))
        oid = bytes.fromhex("0609608648016503040311")[:-1]
        number = der[der.index(oid) + len(oid)]
        seed = der[der.index(b"\x04\x20") + 2:][:32]
        return {17: SETS["ml-dsa-44"], 18: SETS["ml-dsa-65"], 19: SETS["ml-dsa-87"]}[number].from_seed_bytes(seed)


def sign(key, name, kind, path):
    key = private_key(key)
    kind, public = int(kind), key.public_key()
    signature = key.sign(file_id(name, kind, path), *arguments(public, name))
    key_id = x509.SubjectKeyIdentifier.from_public_key(public).digest[-4:]
    header = bytes([kind, 3, NUMBERS[name]]) + key_id + len(signature).to_bytes(2, "big")
    pathlib.Path(path + ".sig").write_bytes(header + signature)


def verify(certificate, name, kind, path):
    public = x509.load_der_x509_certificate(pathlib.Path(certificate).read_bytes()).public_key()
    value = pathlib.Path(path + ".sig").read_bytes()
    kind = int(kind)
    assert value[:3] == bytes([kind, 3, NUMBERS[name]]), value[:3].hex()
    assert int.from_bytes(value[7:9], "big") == len(value) - 9
    public.verify(value[9:], file_id(name, kind, path), *arguments(public, name))


def verify_content(certificate, signature, path):
    public = x509.load_der_x509_certificate(pathlib.Path(certificate).read_bytes()).public_key()
    public.verify(pathlib.Path(signature).read_bytes(), pathlib.Path(path).read_bytes())


def issue(authority, certificate, name, directory):
    authority = private_key(authority)
    issuer = x509.load_der_x509_certificate(pathlib.Path(certificate).read_bytes())
    key = SETS[name].generate()
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False)
    begin = datetime.datetime(2026, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
    )
    made = builder.sign(authority, None if hasattr(authority, "sign_mu") else hashes.SHA256())
    directory = pathlib.Path(directory)
    (directory / f"{name}.der").write_bytes(made.public_bytes(serialization.Encoding.DER))
    (directory / f"{name}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


{"sign": sign, "verify": verify, "verify-content": verify_content, "issue": issue}[sys.argv[1]](*sys.argv[2:])
