#!/bin/sh
# Makes the certificates of crates/imactl-init/src/certificate.rs with OpenSSL. The keys are
# thrown away, so each run makes other bytes.
set -eu
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -r "$keys"' EXIT
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -outform DER"

# An authority, named by organization and common name.
openssl req -x509 $ec -keyout "$keys/authority.key" -out authority.der \
    -subj "/O=Example Org/CN=Example authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -addext subjectKeyIdentifier=hash
openssl x509 -inform DER -in authority.der -out "$keys/authority.pem"

# A signer's, signed by it.
openssl req -x509 $ec -keyout "$keys/signer.key" -out signer.der \
    -CA "$keys/authority.pem" -CAkey "$keys/authority.key" \
    -subj "/CN=Example signer/emailAddress=signer@example.org" \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=digitalSignature \
    -addext subjectKeyIdentifier=hash -addext authorityKeyIdentifier=keyid

# Without extensions and common name, and with a serial number that begins with a zero byte.
printf '[req]\ndistinguished_name=name\n[name]\n' > "$keys/bare.cnf"
openssl req -x509 $ec -config "$keys/bare.cnf" -keyout "$keys/bare.key" -out bare.der \
    -subj "/O=Bare Org" -set_serial 0xc0ffee
