# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Where the keys are, what tasks depend on in their place, and how imactl is run with them.
#
# SIGNING_MODEL             "sample": keys that the build makes, once for a build directory, for
#                           development; "user": those in the directories below; "verify": the
#                           certificates of these, for those who have no private key
# IMA_KEYS_DIR              x509_ima.{key,der}: signs files
# SYSTEM_TRUSTED_KEYS_DIR   system_trusted_key.{crt,der}: compiled into the kernel; vouches for
#                           the other certificates
# SECONDARY_TRUSTED_KEYS_DIR  secondary_trusted_key.{crt,der}: a second CA (optional)
# MODSIGN_KEYS_DIR          modsign_key.{key,crt}: signs kernel modules
# EVM_KEYS_DIR              x509_evm.{key,der}: signs the metadata of files, where IMA_EVM asks for it
#
# IMA_EVM                   "none"; "portable": images have EVM signatures of owner, mode, capabilities and labels
# IMA_SIGNING_KEY           the key of IMA_KEYS_DIR; or a PKCS#11 URI, "pkcs11:token=...;object=..."
# IMA_SIGNING_CERT          its certificate
# IMA_PASSPHRASE_FILE       a file whose first line is the passphrase (or PIN) of the key
# IMA_PASSPHRASE_ENV        or the name of a variable in the environment that bitbake is started in
# MODSIGN_KEY               the key of MODSIGN_KEYS_DIR; or a PKCS#11 URI
# MODSIGN_PASSPHRASE_FILE, MODSIGN_PASSPHRASE_ENV   its passphrase, as above
# EVM_SIGNING_KEY, EVM_SIGNING_CERT, EVM_PASSPHRASE_FILE, EVM_PASSPHRASE_ENV   the same of EVM_KEYS_DIR
# IMA_EXTRA_CERTS           certificate files that go to /etc/keys, too, such as that of the next key
# IMA_TOKEN_ENV             names of variables in the environment that bitbake is started in, which
#                           are handed on to what signs: a PKCS#11 module's settings
# IMA_SIGNATURE_CACHE       a directory that keeps signatures for the next build (imactl sign --cache)
#
# A private key is only ever named, to the program that signs; a passphrase is neither a variable
# of BitBake nor an argument. Tasks depend on the certificates' content, not on where they are:
# other keys have the signed things built again, a moved directory does not.

# SIGNING_MODEL and the four directories have no default here: they are variables of meta-signing-key,
# too, and a default of this class would replace the one of that layer.
SAMPLE_KEYS_DIR ??= "${TOPDIR}/sample-keys"

IMA_SIGNING_KEY ??= "${@integrity_key_file(d, 'ima', ['key'])}"
IMA_SIGNING_CERT ??= "${@integrity_key_file(d, 'ima', ['der', 'crt', 'pem'])}"
IMA_PASSPHRASE_FILE ??= ""
IMA_PASSPHRASE_ENV ??= ""
SYSTEM_TRUSTED_CERT ??= "${@integrity_key_file(d, 'system_trusted', ['crt', 'pem', 'der'])}"
SECONDARY_TRUSTED_CERT ??= "${@integrity_key_file(d, 'secondary_trusted', ['der', 'crt', 'pem'])}"
MODSIGN_KEY ??= "${@integrity_key_file(d, 'modsign', ['key'])}"
MODSIGN_CERT ??= "${@integrity_key_file(d, 'modsign', ['crt', 'pem', 'der'])}"
MODSIGN_PASSPHRASE_FILE ??= ""
MODSIGN_PASSPHRASE_ENV ??= ""
IMA_EVM ??= "none"
EVM_SIGNING_KEY ??= "${@integrity_key_file(d, 'evm', ['key'])}"
EVM_SIGNING_CERT ??= "${@integrity_key_file(d, 'evm', ['der', 'crt', 'pem'])}"
EVM_PASSPHRASE_FILE ??= ""
EVM_PASSPHRASE_ENV ??= ""
IMA_TOKEN_ENV ??= ""
IMA_EXTRA_CERTS ??= ""
IMA_SIGNATURE_CACHE ??= ""

# The root file system is signed under pseudo, which would give the cache's files other owners. Newer
# series ignore this variable: pseudo does not see directories there that are not named.
PSEUDO_IGNORE_PATHS:append = "${@',' + d.getVar('IMA_SIGNATURE_CACHE') if d.getVar('IMA_SIGNATURE_CACHE') else ''}"

# What the kernel's build reads, in the forms that it wants; for the builder's eyes only. Its name
# tells the keys: configurations of a multiconfig build may have others, and share a TMPDIR.
INTEGRITY_KERNEL_KEYS_DIR = "${TMPDIR}/integrity-kernel-keys/${@integrity_kernel_keys_name(d)}"

# Stand in for the keys in the hashes of tasks: what they come to, not the expression.
IMA_IDENTITY = "${@integrity_identity(d, 'IMA_SIGNING_CERT')}"
SYSTEM_TRUSTED_IDENTITY = "${@integrity_identity(d, 'SYSTEM_TRUSTED_CERT')}"
SECONDARY_TRUSTED_IDENTITY = "${@integrity_identity(d, 'SECONDARY_TRUSTED_CERT')}"
MODSIGN_IDENTITY = "${@integrity_identity(d, 'MODSIGN_CERT')}"
EVM_IDENTITY = "${@integrity_identity(d, 'EVM_SIGNING_CERT') if d.getVar('IMA_EVM') != 'none' else 'none'}"
EVM_IDENTITY[vardepvalue] = "${EVM_IDENTITY}"
IMA_EXTRA_IDENTITY = "${@integrity_hash(d.getVar('IMA_EXTRA_CERTS').split())}"
IMA_EXTRA_IDENTITY[vardepvalue] = "${IMA_EXTRA_IDENTITY}"
IMA_IDENTITY[vardepvalue] = "${IMA_IDENTITY}"
SYSTEM_TRUSTED_IDENTITY[vardepvalue] = "${SYSTEM_TRUSTED_IDENTITY}"
SECONDARY_TRUSTED_IDENTITY[vardepvalue] = "${SECONDARY_TRUSTED_IDENTITY}"
MODSIGN_IDENTITY[vardepvalue] = "${MODSIGN_IDENTITY}"

# "user" and "verify" share what is signed, so no task but those of images depends on which it is.
integrity_key_file[vardepsexclude] = "SIGNING_MODEL"
integrity_identity[vardepsexclude] = "SIGNING_MODEL"
INTEGRITY_SIGNS[vardepsexclude] = "SIGNING_MODEL"
INTEGRITY_SIGNS = "${@'0' if d.getVar('SIGNING_MODEL') == 'verify' else '1'}"
INTEGRITY_SIGNS[vardepvalue] = "${INTEGRITY_SIGNS}"

BB_BASEHASH_IGNORE_VARS:append = " \
    SAMPLE_KEYS_DIR IMA_KEYS_DIR SYSTEM_TRUSTED_KEYS_DIR SECONDARY_TRUSTED_KEYS_DIR MODSIGN_KEYS_DIR \
    IMA_SIGNING_KEY IMA_SIGNING_CERT IMA_PASSPHRASE_FILE IMA_PASSPHRASE_ENV \
    SYSTEM_TRUSTED_CERT SECONDARY_TRUSTED_CERT MODSIGN_KEY MODSIGN_CERT MODSIGN_PASSPHRASE_FILE \
    MODSIGN_PASSPHRASE_ENV EVM_KEYS_DIR EVM_SIGNING_KEY EVM_SIGNING_CERT EVM_PASSPHRASE_FILE EVM_PASSPHRASE_ENV IMA_TOKEN_ENV IMA_EXTRA_CERTS IMA_SIGNATURE_CACHE INTEGRITY_KERNEL_KEYS_DIR BB_ORIGENV"

# Recipes are parsed anew where a certificate has changed: the parser's cache knows files only.
python () {
    if d.getVar('SIGNING_MODEL') == 'sample':
        integrity_sample_identity(d)
        files = [os.path.join(d.getVar('SAMPLE_KEYS_DIR'), 'identity')]
    else:
        names = ['IMA_SIGNING_CERT', 'SYSTEM_TRUSTED_CERT', 'SECONDARY_TRUSTED_CERT', 'MODSIGN_CERT', 'EVM_SIGNING_CERT']
        files = [d.getVar(name) for name in names]
    for file in files + d.getVar('IMA_EXTRA_CERTS').split():
        if file:
            bb.parse.mark_dependency(d, file)
}

# The variable that names the directory, and what the files in it begin with.
INTEGRITY_ROLE_ima = "IMA_KEYS_DIR ima_keys x509_ima"
INTEGRITY_ROLE_system_trusted = "SYSTEM_TRUSTED_KEYS_DIR system_trusted_keys system_trusted_key"
INTEGRITY_ROLE_secondary_trusted = "SECONDARY_TRUSTED_KEYS_DIR secondary_trusted_keys secondary_trusted_key"
INTEGRITY_ROLE_modsign = "MODSIGN_KEYS_DIR modsign_keys modsign_key"
INTEGRITY_ROLE_evm = "EVM_KEYS_DIR evm_keys x509_evm"

def integrity_keys_dir(d, variable):
    """A directory of keys, or None: not the public sample keys that meta-signing-key defaults to."""
    directory = d.getVar(variable)
    return directory if directory != d.getVar('SAMPLE_' + variable) else None

def integrity_key_file(d, role, extensions):
    """A file of a role: the first of the extensions that is there, else the first."""
    variable, subdirectory, stem = d.getVar('INTEGRITY_ROLE_' + role).split()
    if d.getVar('SIGNING_MODEL') == 'sample':
        # made in the middle of a build, all of them: what is there must not matter
        directory = os.path.join(d.getVar('SAMPLE_KEYS_DIR'), 'store', subdirectory)
        return os.path.join(directory, stem + '.' + extensions[0])
    directory = integrity_keys_dir(d, variable)
    if not directory:
        return ''
    files = [os.path.join(directory, stem + '.' + extension) for extension in extensions]
    return next((file for file in files if os.path.exists(file)), files[0])

def integrity_identity(d, variable):
    """What changes when the keys change: a hash of the certificate.

    Sample keys do not exist when recipes are parsed for the first time, and a task's hash must
    not change in the middle of a build; so the build directory draws a number for them."""
    if d.getVar('SIGNING_MODEL') == 'sample':
        return 'sample-' + integrity_sample_identity(d)
    return integrity_hash([d.getVar(variable)])

def integrity_hash(paths):
    """A hash of each file's content; "none" for a file that is not there."""
    import hashlib
    found = []
    for path in paths:
        try:
            with open(path, 'rb') as file:
                found.append(hashlib.sha256(file.read()).hexdigest())
        except OSError:
            found.append('none')
    return ' '.join(found) or 'none'

def integrity_kernel_keys_name(d):
    import hashlib
    # not by where the key is: a moved directory has nothing made anew
    names = ['SYSTEM_TRUSTED_IDENTITY', 'MODSIGN_IDENTITY']
    text = '\0'.join(d.getVar(name) or '' for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

def integrity_sample_identity(d):
    import uuid
    directory = d.getVar('SAMPLE_KEYS_DIR')
    path = os.path.join(directory, 'identity')
    if not os.path.exists(path):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        drawn = '%s.%d' % (path, os.getpid())
        with open(drawn, 'w') as file:
            file.write(uuid.uuid4().hex)
        try:
            os.link(drawn, path)  # the first of the parsing processes wins
        except FileExistsError:
            pass
        os.unlink(drawn)
    with open(path) as file:
        return file.read()

def integrity_key_arguments(d, role='IMA'):
    """What tells imactl which key signs, and where its passphrase comes from."""
    key, certificate = {
        'IMA': ('IMA_SIGNING_KEY', 'IMA_SIGNING_CERT'),
        'MODSIGN': ('MODSIGN_KEY', 'MODSIGN_CERT'),
        'EVM': ('EVM_SIGNING_KEY', 'EVM_SIGNING_CERT'),
    }[role]
    arguments = ['--key', d.getVar(key), '--cert', d.getVar(certificate)]
    file, variable = d.getVar(role + '_PASSPHRASE_FILE'), d.getVar(role + '_PASSPHRASE_ENV')
    if file and variable:
        bb.fatal('%s_PASSPHRASE_FILE and %s_PASSPHRASE_ENV are both set: one is enough' % (role, role))
    if file:
        return arguments + ['--passphrase-file', file]
    return arguments + (['--passphrase-env', variable] if variable else [])

def integrity_sign_arguments(d):
    """The arguments of imactl that sign files. Trial signatures of keys must not come from the cache."""
    cache = d.getVar('IMA_SIGNATURE_CACHE')
    return ['sign', *integrity_key_arguments(d), *(['--cache', cache] if cache else [])]

def integrity_environment(d, variable):
    """A variable of the shell that bitbake was started in, or None."""
    return d.getVar('BB_ORIGENV', False).getVar(variable, False)

def integrity_passphrase(d, role):
    """The passphrase of a role's key, or None: for programs that are not imactl."""
    file, variable = d.getVar(role + '_PASSPHRASE_FILE'), d.getVar(role + '_PASSPHRASE_ENV')
    if file:
        with open(file) as lines:
            return lines.readline().rstrip('\n')
    if not variable:
        return None
    passphrase = integrity_environment(d, variable)
    if passphrase is None:
        bb.fatal('%s_PASSPHRASE_ENV: $%s is not set where bitbake was started' % (role, variable))
    return passphrase

def integrity_token_environment(d):
    """What a PKCS#11 module wants to find in its environment."""
    found = {name: integrity_environment(d, name) for name in d.getVar('IMA_TOKEN_ENV').split()}
    return {name: value for name, value in found.items() if value is not None}

integrity_imactl[vardepsexclude] = "INTEGRITY_SIGNS"
def integrity_imactl(d, arguments, role='IMA'):
    """Runs imactl. Exit status and output (both streams) are the result."""
    import subprocess
    # from the shell that bitbake was started in straight into imactl's environment
    environment = {**os.environ, **integrity_token_environment(d)}
    variable = d.getVar(role + '_PASSPHRASE_ENV')
    # those who have no key need no passphrase
    if variable and d.getVar('INTEGRITY_SIGNS') != '0':
        environment[variable] = integrity_passphrase(d, role)
    command = ['imactl', '--color', 'never', *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.rstrip()

def integrity_let_sign(d, task, key):
    """Has a task see the network where the key is in a token, which may be behind it."""
    if (d.getVar(key) or '').startswith('pkcs11:'):
        d.setVarFlag(task, 'network', '1')

def integrity_certificate(path):
    """A certificate file's content in DER, be it DER or PEM; PEM is its first certificate."""
    import ssl
    with open(path, 'rb') as file:
        content = file.read()
    begin, end = b'-----BEGIN CERTIFICATE-----', b'-----END CERTIFICATE-----'
    if begin not in content:
        if not content.startswith(b'\x30'):
            bb.fatal('%s: not a certificate, neither in DER nor in PEM' % path)
        return content
    start = content.index(begin)
    return ssl.PEM_cert_to_DER_cert(content[start:content.index(end, start) + len(end)].decode())
