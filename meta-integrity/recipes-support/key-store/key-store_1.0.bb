SUMMARY = "Certificates that images are signed under"
DESCRIPTION = "The certificates of the keys that sign an image, as packages. No private key is in \
any of them but, where IMA_SAMPLE_KEY_ON_TARGET asks for it, the sample key. The task prepare_keys \
makes the sample keys, or checks the user's; all that signs depends on it."
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
    elif model == 'user':
        check_user_keys(d)
    elif d.getVar('WITHIN_EXT_SDK') != '1':  # the build that made the SDK has checked them
        check_certificates(d)
}
do_prepare_keys[vardepsexclude] += "SIGNING_MODEL WITHIN_EXT_SDK"
do_prepare_keys[vardeps] += "IMA_IDENTITY IMA_EXTRA_IDENTITY SYSTEM_TRUSTED_IDENTITY SECONDARY_TRUSTED_IDENTITY MODSIGN_IDENTITY EVM_IDENTITY"
do_prepare_keys[depends] += "imactl-native:do_populate_sysroot"
addtask prepare_keys after do_prepare_recipe_sysroot before do_install

python () {
    for key in ['IMA_SIGNING_KEY', 'MODSIGN_KEY', 'EVM_SIGNING_KEY']:
        integrity_let_sign(d, 'do_prepare_keys', key)
}

def make_sample_keys(d):
    directory = d.getVar('SAMPLE_KEYS_DIR')
    store = os.path.join(directory, 'store')
    if not os.path.exists(store):  # a team's may be read-only
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
    features = bb.utils.filter('DISTRO_FEATURES', 'ima modsign', d).split()
    wanted = {'IMA': 'ima' in features, 'MODSIGN': 'modsign' in features, 'EVM': d.getVar('IMA_EVM') != 'none'}
    for role in wanted:
        if wanted[role]:
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
    roles = {'system_trusted': 'SYSTEM_TRUSTED_CERT', 'secondary_trusted': 'SECONDARY_TRUSTED_CERT',
        'modsign': 'MODSIGN_CERT', 'ima': 'IMA_SIGNING_CERT'}
    if d.getVar('IMA_EVM') != 'none':
        roles['evm'] = 'EVM_SIGNING_CERT'
    for role, variable in roles.items():
        certificate = d.getVar(variable)
        if certificate and (role != 'secondary_trusted' or os.path.exists(certificate)):
            _, directory, stem = d.getVar('INTEGRITY_ROLE_' + role).split()
            place = os.path.join(store, directory, stem + '.crt')
            bb.utils.mkdirhier(os.path.dirname(place))
            shutil.copyfile(certificate, place)
            places[place] = certificate
    for certificate in d.getVar('IMA_EXTRA_CERTS').split():
        place = os.path.join(store, 'ima_keys', extra_name(certificate, 'crt'))
        shutil.copyfile(certificate, place)
        places[place] = certificate
    check_files(d, [store], places)

def extra_name(certificate, extension):
    """The name that a certificate in IMA_EXTRA_CERTS has in KEYS_DIR."""
    stem = os.path.splitext(os.path.basename(certificate))[0]
    return 'x509_ima_%s.%s' % (stem.replace('x509_ima_', ''), extension)

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

# Where imactl-init looks: x509_ima*.der for .ima, x509_secondary_*.der for .secondary_trusted_keys,
# evm/*.der for .evm.
KEYS_DIR = "${sysconfdir}/keys"

RPM_KEYS_DIR ??= ""
IMA_SAMPLE_KEY_ON_TARGET ??= "0"

python do_install() {
    import glob, shutil, ssl
    keys = d.getVar('D') + d.getVar('KEYS_DIR')
    def install(name, content, directory=keys, mode=0o644):
        path = os.path.join(directory, name)
        bb.utils.mkdirhier(os.path.dirname(path))
        if os.path.exists(path):
            bb.fatal('two certificates of IMA_EXTRA_CERTS would be %s' % name)
        with open(path, 'wb') as file:
            file.write(content)
        os.chmod(path, mode)
    certificates = {
        'x509_ima.der': 'IMA_SIGNING_CERT',
        'system_trusted_key.der': 'SYSTEM_TRUSTED_CERT',
        'x509_secondary_trusted.der': 'SECONDARY_TRUSTED_CERT',
        'modsign_key.crt': 'MODSIGN_CERT',
        'evm/x509_evm.der': 'EVM_SIGNING_CERT',
    }
    for name, variable in certificates.items():
        path = d.getVar(variable)
        if not path or (variable == 'SECONDARY_TRUSTED_CERT' and not os.path.exists(path)):
            continue
        if variable == 'MODSIGN_CERT' and not bb.utils.contains('DISTRO_FEATURES', 'modsign', True, False, d):
            continue
        if variable == 'EVM_SIGNING_CERT' and d.getVar('IMA_EVM') == 'none':
            continue
        certificate = integrity_certificate(path)
        install(name, certificate if name.endswith('.der') else ssl.DER_cert_to_PEM_cert(certificate).encode())
    for path in d.getVar('IMA_EXTRA_CERTS').split():
        install(extra_name(path, 'der'), integrity_certificate(path))
    for path in glob.glob(d.expand('${RPM_KEYS_DIR}/RPM-GPG-KEY-*')) if d.getVar('RPM_KEYS_DIR') else []:
        with open(path, 'rb') as key:
            install(os.path.basename(path), key.read(), d.getVar('D') + d.getVar('RPM_GPG_DIR'))
    if d.getVar('IMA_SAMPLE_KEY_ON_TARGET') == '1' and d.getVar('SIGNING_MODEL') == 'sample':
        with open(d.getVar('IMA_SIGNING_KEY'), 'rb') as key:
            install('x509_ima.key', key.read(), mode=0o600)
}
do_install[vardepsexclude] += "SIGNING_MODEL"
do_install[vardeps] += "IMA_IDENTITY IMA_EXTRA_IDENTITY SYSTEM_TRUSTED_IDENTITY SECONDARY_TRUSTED_IDENTITY MODSIGN_IDENTITY EVM_IDENTITY"
do_install[cleandirs] = "${D}"

# the places are those of meta-signing-key
RPM_GPG_DIR = "${sysconfdir}/pki/rpm-gpg"

PACKAGES = "${PN}-ima-cert ${PN}-evm-cert ${PN}-system-trusted-cert ${PN}-secondary-trusted-cert ${PN}-modsign-cert \
    ${PN}-rpm-pubkey ${PN}-sample-key"
FILES:${PN}-ima-cert = "${KEYS_DIR}/x509_ima*.der"
FILES:${PN}-evm-cert = "${KEYS_DIR}/evm"
FILES:${PN}-system-trusted-cert = "${KEYS_DIR}/system_trusted_key.der"
FILES:${PN}-secondary-trusted-cert = "${KEYS_DIR}/x509_secondary_trusted.der"
FILES:${PN}-modsign-cert = "${KEYS_DIR}/modsign_key.crt"
FILES:${PN}-rpm-pubkey = "${RPM_GPG_DIR}"
FILES:${PN}-sample-key = "${KEYS_DIR}/x509_ima.key"
SUMMARY:${PN}-ima-cert = "The certificate that files are verified with, and those of IMA_EXTRA_CERTS"
SUMMARY:${PN}-evm-cert = "The certificate that EVM signatures are verified with, where IMA_EVM asks for it"
SUMMARY:${PN}-system-trusted-cert = "The CA's certificate that is compiled into the kernel"
SUMMARY:${PN}-secondary-trusted-cert = "A second CA's certificate, for .secondary_trusted_keys"
SUMMARY:${PN}-modsign-cert = "The certificate that kernel modules are verified with"
SUMMARY:${PN}-rpm-pubkey = "The OpenPGP keys of RPM_KEYS_DIR, which packages are verified with"
SUMMARY:${PN}-sample-key = "The sample key itself, for development: IMA_SAMPLE_KEY_ON_TARGET"
ALLOW_EMPTY:${PN}-ima-cert = "1"
ALLOW_EMPTY:${PN}-evm-cert = "1"
ALLOW_EMPTY:${PN}-system-trusted-cert = "1"
ALLOW_EMPTY:${PN}-secondary-trusted-cert = "1"
ALLOW_EMPTY:${PN}-modsign-cert = "1"
