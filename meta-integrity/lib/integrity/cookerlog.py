# SPDX-License-Identifier: MIT OR Apache-2.0
#
# BitBake's server logs the whole environment that it is started in, and that of each client, to
# bitbake-cookerdaemon.log, so a passphrase would stay there. It is overwritten where it stands: the
# server goes on appending to the same file.

import atexit
import glob
import os
import sys

# The variables that name a variable of the environment with a passphrase.
NAMES = ('IMA_PASSPHRASE_ENV', 'MODSIGN_PASSPHRASE_ENV', 'EVM_PASSPHRASE_ENV')

# The process that blots as it ends; those that it forks do not.
_watched = None

def watch(d):
    """Has the server blot once more as it ends, whatever became of its configuration.

    It is called as INHERIT is expanded: behind the configuration files, before any class."""
    global _watched
    if _watched != os.getpid() and os.path.basename(sys.argv[0]).startswith('bitbake-server'):
        _watched = os.getpid()
        atexit.register(_finish, d)
    return ''

def _finish(d):
    if _watched == os.getpid():
        blot(d)

def blot(d):
    """Overwrites passphrases in the server's log, which is the user's alone from then on."""
    environment = d.getVar('BB_ORIGENV', False)
    forms = set()
    for name in NAMES:
        variable = d.getVar(name)
        passphrase = variable and environment and environment.getVar(variable, False)
        if passphrase:
            forms.update(form.encode() for form in (passphrase, repr(passphrase)[1:-1]))
    if not forms:
        return
    sys.stdout.flush()  # the server's log is its standard output
    for path in glob.glob(os.path.join(d.getVar('TOPDIR'), 'bitbake-cookerdaemon.log*')):
        if not os.path.islink(path):
            os.chmod(path, 0o600)
            _overwrite(path, forms)

def _overwrite(path, forms):
    with open(path, 'r+b') as log:
        content = log.read()
        for form in sorted(forms, key=len, reverse=True):
            start = content.find(form)
            while start >= 0:
                log.seek(start)
                log.write(b'*' * len(form))
                start = content.find(form, start + len(form))
