"""Runs functions of the layer's recipes as BitBake runs tasks: the check of a kernel's configuration at each
level, the check of modules, the packages of certificates, and the boot-time check as it is installed.

    functions.py LAYER
"""

import fnmatch
import logging
import os
import shutil
import subprocess
import sys
import tempfile

import parse

import bb
import bb.build
import bb.process

HERE = os.path.dirname(os.path.abspath(__file__))
MODULE = b'no real module'
SIGNED = MODULE + b'~Module signature appended~\n'

class Messages(logging.Handler):
    """The warnings and errors of functions."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append('%s: %s' % (record.levelname, record.getMessage()))

def execute(store, function, directory, **variables):
    """Whether the function succeeds, and its messages."""
    store = store.createCopy()
    for name, value in {'T': os.path.join(directory, 'temp'), **variables}.items():
        store.setVar(name, value)
    os.makedirs(store.getVar('T'), exist_ok=True)
    messages = Messages()
    logger = logging.getLogger('BitBake')
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(messages)
    try:
        bb.build.exec_func(function, store)
        succeeded = True
    except (bb.BBHandledException, bb.process.ExecutionError):
        succeeded = False
    finally:
        logger.removeHandler(messages)
    return succeeded, '\n'.join(messages.texts)

def check_kernel(kernel, directory):
    objects = os.path.join(directory, 'objects')
    os.makedirs(objects)
    fragments = []
    for path in kernel.getVar('INTEGRITY_FRAGMENTS').split():
        with open(path) as file:
            fragments.append(file.read())
    whole = ''.join(fragments) + 'CONFIG_EXT4_FS=y\nCONFIG_EXT4_FS_SECURITY=y\n'
    lacking = whole.replace('CONFIG_IMA_APPRAISE=y', '# CONFIG_IMA_APPRAISE is not set')
    assert lacking != whole
    demanding = whole + 'CONFIG_IMA_ARCH_POLICY=y\n'
    def run(config, level, **variables):
        with open(os.path.join(objects, '.config'), 'w') as file:
            file.write(config)
        return execute(kernel, 'integrity_check_kernel', directory, B=objects, IMAGE_FSTYPES='ext4',
            IMA_KERNEL_CHECK=level, **variables)
    assert run(whole, 'error') == (True, ''), run(whole, 'error')
    succeeded, text = run(lacking, 'error')
    assert not succeeded and 'CONFIG_IMA_APPRAISE=y' in text, text
    succeeded, text = run(lacking, 'warn')
    assert succeeded and text.startswith('WARNING: ') and 'CONFIG_IMA_APPRAISE=y' in text, text
    assert run(lacking, 'off') == (True, '')
    succeeded, text = run(whole, 'no')
    assert not succeeded and 'IMA_KERNEL_CHECK is "no"' in text, text
    succeeded, text = run(demanding, 'error')
    assert succeeded and 'IMA_SIGN_POLICY is not "1"' in text, text
    assert run(demanding, 'error', IMA_SIGN_POLICY='1') == (True, '')

def check_modules(kernel, directory):
    def run(name, content, *compressor):
        destination = os.path.join(directory, 'modules')
        shutil.rmtree(destination, ignore_errors=True)
        os.makedirs(destination)
        if compressor:
            content = subprocess.run(compressor, input=content, stdout=subprocess.PIPE, check=True).stdout
        with open(os.path.join(destination, name), 'wb') as file:
            file.write(content)
        return execute(kernel, 'integrity_check_modules', directory, D=destination)
    for suffix, compressor in ('', []), ('.gz', ['gzip']), ('.xz', ['xz']), ('.zst', ['zstd', '-q']):
        name = 'lab.ko' + suffix
        assert run(name, SIGNED, *compressor) == (True, ''), name
        succeeded, text = run(name, MODULE, *compressor)
        assert not succeeded and 'modules without a signature' in text and name in text, text
    succeeded, text = run('lab.ko.new', SIGNED)
    assert not succeeded and 'compression is unknown' in text, text
    assert run('lab.kombu', MODULE) == (True, '')

def check_certificates(recipe, directory):
    """Certificates of a store of meta-signing-key are installed where its own packages have them."""
    store = os.path.join(HERE, '../../testdata/key-stores/meta-signing-key-wrynose')
    destination, keys = os.path.join(directory, 'installed'), os.path.join(directory, 'rpm')
    os.makedirs(keys)
    for name in 'RPM-GPG-KEY-one', 'RPM-GPG-KEY-two', 'secret':
        with open(os.path.join(keys, name), 'w') as file:
            file.write(name)
    names = ['ima_keys', 'system_trusted_keys', 'secondary_trusted_keys', 'modsign_keys']
    variables = {'%s_DIR' % name.upper(): os.path.join(store, name) for name in names}
    succeeded, text = execute(recipe, 'do_install', directory, D=destination, RPM_KEYS_DIR=keys,
        IMA_EVM='none', sysconfdir='/etc', **variables)
    assert succeeded, text
    installed = []
    for top, _, files in os.walk(destination):
        installed += [os.path.join(top, name)[len(destination):] for name in files]
    wanted = {
        '/etc/keys/x509_ima.der': 'ima-cert',
        '/etc/keys/system_trusted_key.der': 'system-trusted-cert',
        '/etc/keys/x509_secondary_trusted.der': 'secondary-trusted-cert',
        '/etc/keys/modsign_key.crt': 'modsign-cert',
        '/etc/pki/rpm-gpg/RPM-GPG-KEY-one': 'rpm-pubkey',
        '/etc/pki/rpm-gpg/RPM-GPG-KEY-two': 'rpm-pubkey',
    }
    assert sorted(installed) == sorted(wanted), installed
    recipe = recipe.createCopy()
    recipe.setVar('sysconfdir', '/etc')
    for path, package in wanted.items():
        patterns = recipe.getVar('FILES:key-store-' + package).split()
        assert any(fnmatch.fnmatch(path, pattern) or path.startswith(pattern + '/') for pattern in patterns), \
            (path, patterns)

def check_enforced(layer, recipe, directory):
    """The service and the init script as installed; and what the script does."""
    for action, failure in ('report', 'none'), ('reboot', 'reboot-force'):
        place = os.path.join(directory, action)
        destination, bin = (os.path.join(place, name) for name in ['installed', 'bin'])
        os.makedirs(bin)
        succeeded, text = execute(recipe, 'do_install', place, D=destination, bindir=bin,
            S=os.path.join(layer, 'recipes-support/ima-enforced/files'), B=place,
            DISTRO_FEATURES='ima systemd sysvinit', systemd_system_unitdir='/units', sysconfdir='/etc',
            IMA_ENFORCED_ACTION=action)
        assert succeeded, text
        with open(destination + '/units/ima-enforced.service') as file:
            unit = file.read()
        assert 'FailureAction=%s\n' % failure in unit, unit
        checks = 'ExecStart=%s/imactl --color never --quiet status --require enforced\n' % bin
        assert checks in unit and '@' not in unit, unit
        with open(destination + '/etc/init.d/ima-enforced') as file:
            script = file.read()
        console = os.path.join(place, 'console')
        script = script.replace('/dev/console', console)
        for enforced in True, False:
            for name in 'imactl', 'reboot':
                with open(os.path.join(bin, name), 'w') as file:
                    file.write('#!/bin/sh\necho "%s $*" >> %s/calls\n' % (name, place))
                    if name == 'imactl' and not enforced:
                        file.write('echo "no policy"; exit 1\n')
                os.chmod(file.name, 0o755)
            for name in 'calls', 'console':
                open(os.path.join(place, name), 'w').close()
            path = '%s:%s' % (bin, os.environ['PATH'])
            done = subprocess.run(['sh', '-c', script, 'ima-enforced', 'start'], env={'PATH': path})
            with open(os.path.join(place, 'calls')) as file:
                calls = file.read()
            with open(console) as file:
                printed = file.read()
            assert 'status --require enforced\n' in calls, calls
            assert done.returncode == (0 if enforced else 1), done
            assert ('reboot -f\n' in calls) == (action == 'reboot' and not enforced), calls
            assert printed == ('' if enforced else 'ima-enforced: no policy\n'), printed

def main():
    layer = os.path.abspath(sys.argv[1])
    directory = tempfile.mkdtemp(prefix='imactl-layer-')
    try:
        text = parse.CONFIGURATIONS['user']
        _, recipes = parse.parse(os.path.join(directory, 'build'), layer, parse.SERIES[-1], text)
        check_kernel(recipes['linux-yocto'], os.path.join(directory, 'kernel'))
        check_modules(recipes['linux-vendor'], os.path.join(directory, 'modules'))
        check_certificates(recipes['key-store'], os.path.join(directory, 'certificates'))
        check_enforced(layer, recipes['ima-enforced'], os.path.join(directory, 'enforced'))
    finally:
        os.chdir('/')
        shutil.rmtree(directory)
    print('functions of the layer: kernel configurations, modules, certificates, the check at boot')

if __name__ == '__main__':
    main()
