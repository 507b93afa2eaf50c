"""Runs the layer's cases for the target (lib/oeqa/runtime/cases/ima.py) with OpenEmbedded's own
framework: on a machine of the lab, which has to pass, and on targets that do not enforce anything,
or refuse everything, which have to fail.

    runtime.py META LAYER IMA_EVM PACKAGES COMMAND...

PACKAGES is the directory of the build's packages, or empty if the image has no package manager. COMMAND reads
shell commands as JSON strings, one per line, and prints an array of status and output for each.
"""

import base64
import json
import logging
import os
import subprocess
import sys

META, LAYER, EVM, PACKAGES, COMMAND = *sys.argv[1:5], sys.argv[5:]
sys.path[:0] = [os.path.join(META, 'lib'), os.path.join(META, '../bitbake/lib')]

from oeqa.runtime.context import OERuntimeTestContext

POLICY = 'appraise func=BPRM_CHECK appraise_type=imasig\n'
MODULES = ['ima', 'ping', 'ssh']
# cases for other images
WITHOUT = [] if PACKAGES else ['test_updated_package_runs', 'test_package_from_dnf_runs']
WITHOUT += ['test_metadata_is_immutable'] if EVM == 'none' else []
# the limit of Linux for an argument is 128 KiB
CHUNK = 60000

# the shell of the lab's machines prefers its own commands
PROGRAMS = 'rpm() { /usr/bin/rpm "$@"; }; '

class Machine:
    """A machine of the lab."""

    def __init__(self):
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, command, timeout=None):
        self.process.stdin.write(json.dumps(PROGRAMS + command) + '\n')
        self.process.stdin.flush()
        status, output = json.loads(self.process.stdout.readline())
        return status, output.rstrip('\n')

    def copyTo(self, source, target):
        """There is no network: the content goes in commands."""
        self.run(': > %s' % target)
        with open(source, 'rb') as file:
            while chunk := file.read(CHUNK):
                text = base64.b64encode(chunk).decode()
                status, output = self.run('echo %s | base64 -d >> %s' % (text, target))
                assert status == 0, output

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit('the machine has failed')

class Careless:
    """Everything succeeds, whatever is asked for."""

    def run(self, command, timeout=None):
        return 0, POLICY if command.startswith('cat') and command.endswith('/policy') else ''

    def copyTo(self, source, target):
        pass

class Stubborn(Careless):
    """No program runs."""

    def run(self, command, timeout=None):
        if command.endswith('--version'):
            return 126, 'Permission denied'
        return super().run(command)

class Bare:
    """A system without IMA."""

    def run(self, command, timeout=None):
        return 1, 'No such file or directory'

    def copyTo(self, source, target):
        pass

def cases(target):
    """The outcome of each test, by its name. Which runs first is not looked at: the machine has no
    network for the test that all wait for."""
    logger = logging.getLogger('runtime')
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    data = {'DISTRO_FEATURES': 'ima modsign', 'IMAGE_FEATURES': '', 'MLPREFIX': '',
        'DEPLOY_DIR_RPM': PACKAGES, 'COMBINED_FEATURES': '', 'IMA_EVM': EVM}
    context = OERuntimeTestContext(data, logger, target, {'imactl-init', 'rpm', 'dnf'}, '/nonexistent')
    context.loadTests([os.path.join(LAYER, 'lib/oeqa/runtime/cases'),
        os.path.join(META, 'lib/oeqa/runtime/cases')], modules=MODULES)
    tests = {}
    for test in context.suites:
        name = test.id().split('.')[-1]
        if test.id().startswith('ima.') and name not in WITHOUT:
            tests[name] = test
    outcomes = {}
    for name, test in tests.items():
        method = getattr(test, name)
        try:
            method()
            outcomes[name] = 'passed'
        except AssertionError as error:
            outcomes[name] = 'failed: %s' % error
        except BaseException as error:
            if type(error).__name__ != 'SkipTest':
                raise
            outcomes[name] = 'skipped: %s' % error
    return outcomes

def main():
    machine = Machine()
    outcomes = cases(machine)
    machine.close()
    for name, outcome in outcomes.items():
        print('   %s: %s' % (name, outcome))
    assert len(outcomes) >= 8 and all(outcome == 'passed' for outcome in outcomes.values())
    # and each test can fail
    elsewhere = [cases(target) for target in (Careless(), Stubborn(), Bare())]
    for name in outcomes:
        failed = [outcomes for outcomes in elsewhere if outcomes[name].startswith('failed')]
        assert failed, '%s passes wherever it is run' % name

main()
