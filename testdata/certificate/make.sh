#!/bin/sh
# Makes the certificates of tests in ima-format and ima with OpenSSL. The keys are
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

# What keyrings accept: an authority, the same key with another certificate, and what it issued.
mkdir -p issued
plain="-config $keys/bare.cnf"
ca="-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
signer="-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature"
subject_key="-addext subjectKeyIdentifier=hash"
issuer_key="-addext authorityKeyIdentifier=keyid"
openssl req -x509 $ec $plain -keyout "$keys/ca.key" -subj "/CN=Issuer" $ca $subject_key \
    $issuer_key -out issued/authority.der
openssl req -x509 -new -key "$keys/ca.key" -days 36500 $plain -subj "/CN=Issuer" $ca $subject_key \
    $issuer_key -outform DER -out issued/authority-renewed.der
openssl x509 -inform DER -in issued/authority.der -out "$keys/ca.pem"
openssl ecparam -genkey -name prime256v1 -noout -out "$keys/key.key"
issue() {
    name=$1
    shift
    openssl req -x509 -new -key "$keys/key.key" -days 36500 $plain -subj "/CN=Signer" \
        -CA "$keys/ca.pem" -CAkey "$keys/ca.key" -outform DER -out "issued/$name.der" "$@"
}
issue good $signer $subject_key $issuer_key
issue no-usage $subject_key $issuer_key
issue authority-and-signer $subject_key $issuer_key -addext basicConstraints=CA:TRUE \
    -addext keyUsage=digitalSignature,keyCertSign
issue no-subject-key-identifier $signer -addext subjectKeyIdentifier=none $issuer_key
issue no-authority-key-identifier $signer $subject_key -addext authorityKeyIdentifier=none
issue serial-and-issuer $signer $subject_key -addext authorityKeyIdentifier=keyid,issuer:always
issue short-identifier $signer -addext subjectKeyIdentifier=0102 $issuer_key
openssl req -x509 -new -key "$keys/key.key" -days 36500 $plain -subj "/CN=Signer" $signer \
    $subject_key $issuer_key -outform DER -out issued/self-signed.der
