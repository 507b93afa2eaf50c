SUMMARY = "Certificates that images are signed under"
DESCRIPTION = "The certificates of the keys that sign an image, as packages. No private key is in \
any of them. The task prepare_keys makes the sample keys, or checks the user's; all that signs \
depends on it."
SECTION = "security"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

inherit allarch features_check

ANY_OF_DISTRO_FEATURES = "ima modsign"

INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

python do_prepare_keys() {
    model = d.getVar('SIGNING_MODEL')
    if model == 'sample':
        make_sample_keys(d)
    else:
        check_user_keys(d)
    if bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
        prepare_module_key(d)
    prepare_trusted_certificate(d)
}
do_prepare_keys[vardeps] += "IMA_IDENTITY SYSTEM_TRUSTED_IDENTITY SECONDARY_TRUSTED_IDENTITY MODSIGN_IDENTITY"
do_prepare_keys[depends] += "imactl-native:do_populate_sysroot"
addtask prepare_keys after do_prepare_recipe_sysroot before do_install

python () {
    for key in ['IMA_SIGNING_KEY', 'MODSIGN_KEY']:
        integrity_let_sign(d, 'do_prepare_keys', key)
}

def make_sample_keys(d):
    directory = d.getVar('SAMPLE_KEYS_DIR')
    store = os.path.join(directory, 'store')
    lock = bb.utils.lockfile(os.path.join(directory, 'lock'))
    try:
        if not os.path.exists(store):
            status, output = integrity_imactl(d, ['keys', 'create', '--sample', store])
            if status != 0:
                bb.fatal('no sample keys:\n%s' % output)
    finally:
        bb.utils.unlockfile(lock)
    bb.warn('the keys in %s are SAMPLE KEYS: do not ship what they sign' % store)

def check_user_keys(d):
    """Has imactl check the chain, and that each key goes with its certificate and its passphrase."""
    check_certificates(d)
    for role, feature in {'IMA': 'ima', 'MODSIGN': 'modsign'}.items():
        if bb.utils.contains('DISTRO_FEATURES', feature, True, False, d):
            key, passphrase = integrity_key_arguments(d, role)[1], integrity_key_arguments(d, role)[4:]
            if not key.startswith('pkcs11:'):
                check_files(d, [*passphrase, key], {}, role)
            try_key(d, role)

def check_certificates(d):
    """imactl judges each by its keyring, which its place in a key store says: in user configurations
    the files may have any name."""
    import shutil
    store = d.expand('${WORKDIR}/key-store')
    bb.utils.remove(store, recurse=True)
    places = {}
    for role in ['system_trusted', 'secondary_trusted', 'modsign', 'ima']:
        certificate = d.getVar('IMA_SIGNING_CERT' if role == 'ima' else role.upper() + '_CERT')
        if certificate and (role != 'secondary_trusted' or os.path.exists(certificate)):
            _, directory, stem = d.getVar('INTEGRITY_ROLE_' + role).split()
            place = os.path.join(store, directory, stem + '.crt')
            bb.utils.mkdirhier(os.path.dirname(place))
            shutil.copyfile(certificate, place)
            places[place] = certificate
    check_files(d, [store], places)

def check_files(d, arguments, places, role='IMA'):
    import json
    status, output = integrity_imactl(d, ['--json', 'keys', 'check', *arguments], role)
    findings = []
    for line in output.splitlines():
        try:
            findings.append(json.loads(line))
        except ValueError:
            bb.fatal('the keys cannot be checked:\n%s' % output)
    for finding in findings:
        path = places.get(finding['path'], finding['path'])
        text = '%s: %s [%s]' % (path, finding['message'], finding['name'])
        if finding['name'] == 'sample-key':
            bb.fatal('%s\nSIGNING_MODEL is "user": sample keys are refused' % text)
        report = {'error': bb.error, 'warning': bb.warn}.get(finding['severity'], bb.note)
        report(text)
    if status != 0:
        bb.fatal('these keys cannot sign this build: `imactl keys check` tells more')

def try_key(d, role):
    """Makes a signature and throws it away. Key and certificate are a pair if it succeeds."""
    arguments = integrity_key_arguments(d, role)
    certificate = arguments[arguments.index('--cert') + 1]
    trial = ['sign', '--quiet', '--dry-run', '--kind', 'tree', *arguments, certificate]
    status, output = integrity_imactl(d, trial, role)
    if status != 0:
        bb.fatal('this key cannot sign:\n%s' % output)

def prepare_trusted_certificate(d):
    """What CONFIG_SYSTEM_TRUSTED_KEYS wants: certificates in PEM."""
    import ssl
    path = d.getVar('SYSTEM_TRUSTED_CERT')
    if not path:  # only modules are signed
        return
    certificate = integrity_certificate(path)
    write_kernel_key(d, 'system_trusted.pem', ssl.DER_cert_to_PEM_cert(certificate).encode())

def prepare_module_key(d):
    """What CONFIG_MODULE_SIG_KEY wants: a private key and its certificate in one file."""
    import ssl
    path = d.getVar('MODSIGN_KEY')
    if path.startswith('pkcs11:'):
        return
    with open(path, 'rb') as file:
        key = file.read()
    if b'-----BEGIN CERTIFICATE-----' not in key:
        certificate = integrity_certificate(d.getVar('MODSIGN_CERT'))
        key = key.rstrip() + b'\n' + ssl.DER_cert_to_PEM_cert(certificate).encode()
    write_kernel_key(d, 'modsign.pem', key)

def write_kernel_key(d, name, content):
    directory = d.getVar('INTEGRITY_KERNEL_KEYS_DIR')
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    descriptor = os.open(path + '.new', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(content)
    os.rename(path + '.new', path)

# Where imactl-init looks: x509_ima*.der for .ima, x509_secondary_*.der for .secondary_trusted_keys.
KEYS_DIR = "${sysconfdir}/keys"

python do_install() {
    directory = d.getVar('D') + d.getVar('KEYS_DIR')
    certificates = {
        'x509_ima.der': 'IMA_SIGNING_CERT',
        'system_trusted_key.der': 'SYSTEM_TRUSTED_CERT',
        'x509_secondary_trusted.der': 'SECONDARY_TRUSTED_CERT',
    }
    bb.utils.mkdirhier(directory)
    for name, variable in certificates.items():
        path = d.getVar(variable)
        if not path or (variable == 'SECONDARY_TRUSTED_CERT' and not os.path.exists(path)):
            continue
        certificate = integrity_certificate(path)
        with open(os.path.join(directory, name), 'wb') as file:
            file.write(certificate)
        os.chmod(os.path.join(directory, name), 0o644)
}
do_install[vardeps] += "IMA_IDENTITY SYSTEM_TRUSTED_IDENTITY SECONDARY_TRUSTED_IDENTITY"
do_install[cleandirs] = "${D}"

PACKAGES = "${PN}-ima-cert ${PN}-system-trusted-cert ${PN}-secondary-trusted-cert"
FILES:${PN}-ima-cert = "${KEYS_DIR}/x509_ima.der"
FILES:${PN}-system-trusted-cert = "${KEYS_DIR}/system_trusted_key.der"
FILES:${PN}-secondary-trusted-cert = "${KEYS_DIR}/x509_secondary_trusted.der"
SUMMARY:${PN}-ima-cert = "The certificate that files are verified with"
SUMMARY:${PN}-system-trusted-cert = "The CA's certificate that is compiled into the kernel"
SUMMARY:${PN}-secondary-trusted-cert = "A second CA's certificate, for .secondary_trusted_keys"
ALLOW_EMPTY:${PN}-ima-cert = "1"
ALLOW_EMPTY:${PN}-secondary-trusted-cert = "1"
