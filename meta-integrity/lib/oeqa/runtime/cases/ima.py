#
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What a kernel under the default policy does on the target: TEST_SUITES:append = " ima".

import glob
import os

from oeqa.core.decorator.data import skipIfNotDataVar, skipIfNotFeature
from oeqa.core.decorator.depends import OETestDepends
from oeqa.runtime.case import OERuntimeTestCase
from oeqa.runtime.decorator.package import OEHasPackage

SECURITYFS = '/sys/kernel/security/ima'
EVM = '/sys/kernel/security/evm'
# A static, signed program that nothing on a running system needs.
PROGRAM = '/usr/bin/imactl-init'


class ImaTest(OERuntimeTestCase):

    def succeeds(self, command):
        status, output = self.target.run(command)
        self.assertEqual(status, 0, '%s: %s' % (command, output))
        return output

    def is_refused(self, command):
        """The shell says 126 for what it may not execute."""
        status, output = self.target.run(command)
        self.assertEqual(status, 126, '%s was to be refused: %d, %s' % (command, status, output))
        self.assertIn('Permission denied', output)

    def refusals(self, cause):
        records = self.succeeds('dmesg').splitlines()
        return [line for line in records if 'cause=%s' % cause in line]

    @skipIfNotFeature('ima', 'the image is not under IMA')
    @OETestDepends(['ssh.SSHTest.test_ssh'])
    def test_policy_in_force(self):
        policy = self.succeeds('cat %s/policy' % SECURITYFS)
        self.assertIn('appraise func=BPRM_CHECK', policy)
        self.assertIn('appraise_type=imasig', policy)

    @OEHasPackage(['imactl-init'])
    @OETestDepends(['ima.ImaTest.test_policy_in_force'])
    def test_signed_program_runs(self):
        self.succeeds('%s --version' % PROGRAM)

    @OETestDepends(['ima.ImaTest.test_signed_program_runs'])
    def test_copied_program_is_refused(self):
        copy = '/root-copy-of-imactl-init'
        before = len(self.refusals('IMA-signature-required'))
        self.succeeds('cp %s %s' % (PROGRAM, copy))
        try:
            self.is_refused('%s --version' % copy)
        finally:
            self.target.run('rm -f %s' % copy)
        self.assertGreater(len(self.refusals('IMA-signature-required')), before,
            'the refusal is not on record')

    @OETestDepends(['ima.ImaTest.test_signed_program_runs'])
    def test_tampered_program_is_refused_until_restored(self):
        kept = '/root-kept-imactl-init'
        self.succeeds('cp %s %s' % (PROGRAM, kept))
        try:
            self.succeeds('echo tampered >> %s' % PROGRAM)
            self.is_refused('%s --version' % PROGRAM)
        finally:
            # into the same file, which keeps its signature
            self.target.run('cat %s > %s; rm -f %s' % (kept, PROGRAM, kept))
        self.succeeds('%s --version' % PROGRAM)

    @OETestDepends(['ima.ImaTest.test_policy_in_force'])
    def test_unsigned_script_is_refused(self):
        script = '/root-unsigned-script'
        self.succeeds("printf '#!/bin/sh\\nexit 0\\n' > %s && chmod 0755 %s" % (script, script))
        try:
            self.is_refused(script)
            self.succeeds('sh %s' % script)  # what the policy does not hold
        finally:
            self.target.run('rm -f %s' % script)

    @OETestDepends(['ima.ImaTest.test_policy_in_force'])
    def test_unsigned_policy_is_refused(self):
        file = '/root-unsigned-policy'
        rules = len(self.succeeds('cat %s/policy' % SECURITYFS).splitlines())
        self.succeeds('echo "audit func=BPRM_CHECK" > %s' % file)
        try:
            status, output = self.target.run('echo %s > %s/policy' % (file, SECURITYFS))
        finally:
            self.target.run('rm -f %s' % file)
        self.assertNotEqual(status, 0, 'an unsigned policy was taken')
        now = len(self.succeeds('cat %s/policy' % SECURITYFS).splitlines())
        self.assertEqual(now, rules, 'the policy grew')

    @OETestDepends(['ima.ImaTest.test_policy_in_force'])
    def test_signed_policies_are_accepted(self):
        files = self.succeeds('ls /etc/ima/ima_policy.* 2>/dev/null || true').split()
        if not files:
            self.skipTest('IMA_POLICY_ROOT is empty')
        for file in files:
            self.succeeds('echo %s > %s/policy' % (file, SECURITYFS))

    @OETestDepends(['ima.ImaTest.test_policy_in_force'])
    def test_measurement_list(self):
        entries = self.succeeds('cat %s/ascii_runtime_measurements' % SECURITYFS).splitlines()
        self.assertTrue(entries, 'nothing is measured, not even the boot')
        self.assertIn('boot_aggregate', entries[0])

    @skipIfNotDataVar('IMA_EVM', 'portable', 'the image has no EVM signatures')
    @OETestDepends(['ima.ImaTest.test_signed_program_runs'])
    def test_metadata_is_immutable(self):
        bits = self.succeeds('cat %s' % EVM).strip()
        self.assertTrue(bits.isdigit() and int(bits) & 2, 'EVM verifies no signatures: %s' % bits)
        for command in 'chmod 4755', 'chown 1':
            status, output = self.target.run('%s %s' % (command, PROGRAM))
            self.assertNotEqual(status, 0, '%s changed a signed program' % command)
            self.assertIn('not permitted', output)
        self.succeeds('%s --version' % PROGRAM)

    def try_package(self, command):
        """Installs the package that the program came from, with a command that names it as %s."""
        pattern = os.path.join(self.tc.td['DEPLOY_DIR_RPM'], '*', 'imactl-init-[0-9]*.rpm')
        packages = sorted(glob.glob(pattern))
        self.assertTrue(packages, 'no package %s' % pattern)
        before = self.succeeds('ls -i %s' % PROGRAM)
        self.target.copyTo(packages[-1], '/imactl-init.rpm')
        try:
            self.succeeds(command % '/imactl-init.rpm')
        finally:
            self.target.run('rm -f /imactl-init.rpm')
        self.succeeds('%s --version' % PROGRAM)
        self.assertNotEqual(self.succeeds('ls -i %s' % PROGRAM), before, 'it is the file of before')

    @OEHasPackage(['rpm'])
    @OETestDepends(['ima.ImaTest.test_signed_program_runs'])
    def test_updated_package_runs(self):
        self.try_package('rpm -U --force --nodeps %s')

    @OEHasPackage(['dnf'])
    @OETestDepends(['ima.ImaTest.test_signed_program_runs'])
    def test_package_from_dnf_runs(self):
        self.try_package('dnf --assumeyes --nogpgcheck --disablerepo="*" reinstall %s')
