"""Reads the layer with BitBake's own parser, over the core layer beside this file, and checks what
it comes to: asleep, with sample keys, with a user's keys, with their certificates alone.

    parse.py LAYER SCRIPTS      shell functions are written to the directory SCRIPTS
"""

import glob
import logging
import os
import shutil
import sys
import tempfile
import types

# the package leaves out the hash equivalence server, which no parsing needs
for module in ['hashserv', 'hashserv.client']:
    sys.modules[module] = types.ModuleType(module)

import bb
import bb.cache
import bb.cookerdata
import bb.data
import bb.event
import bb.parse

HERE = os.path.dirname(os.path.abspath(__file__))
# LAYERSERIES_CORENAMES of each series
SERIES = ['scarthgap', 'wrynose', 'blacksail wrynose']
AWAKE = 'DISTRO_FEATURES = "ima modsign"\n'
CONFIGURATIONS = {
    'asleep': 'DISTRO_FEATURES = "systemd"\n',
    'sample': AWAKE + 'SIGNING_MODEL = "sample"\n',
    'user': AWAKE + 'SIGNING_MODEL = "user"\n' + ''.join(
        '%s_DIR = "/keys/%s"\n' % (name, name.lower()) for name in
        ['IMA_KEYS', 'SYSTEM_TRUSTED_KEYS', 'SECONDARY_TRUSTED_KEYS', 'MODSIGN_KEYS', 'EVM_KEYS'])
        + 'IMA_EVM = "portable"\nMODSIGN_PASSPHRASE_FILE = "/keys/passphrase"\nIMA_APPRAISE_MODSIG = "1"\n'
        + 'TUNE_FEATURES = "m64 corei7"\n'
        + 'IMA_POLICY_INITRAMFS = "/policies/first"\nIMA_POLICY_ROOT = "/policies/a /policies/b"\n',
}
CONFIGURATIONS['devel'] = 'require conf/distro/include/integrity-devel.inc\nIMA_MEASURE = "tcb"\n'
CONFIGURATIONS['verify'] = CONFIGURATIONS['user'].replace('"user"', '"verify"') \
    + 'IMACTL_SOURCE = "https://example.org/imactl.tar.gz;sha256sum=00"\n'
SECRET = ['IMA_SIGNING_KEY', 'IMA_PASSPHRASE_FILE', 'IMA_PASSPHRASE_ENV', 'MODSIGN_KEY',
    'MODSIGN_PASSPHRASE_FILE', 'MODSIGN_PASSPHRASE_ENV', 'EVM_SIGNING_KEY', 'EVM_PASSPHRASE_FILE',
    'EVM_PASSPHRASE_ENV', 'IMA_TOKEN_ENV', 'BB_ORIGENV']

def parse(directory, layer, series, text):
    """The datastores of all recipes, by their names; those that are skipped have None."""
    conf = os.path.join(directory, 'conf')
    os.makedirs(conf, exist_ok=True)
    with open(os.path.join(conf, 'bblayers.conf'), 'w') as file:
        layers = '%s %s' % (os.path.join(HERE, 'core'), layer)
        file.write('BBPATH = "${TOPDIR}"\nBBFILES ?= ""\nSTUB_SERIES = "%s"\nBBLAYERS = "%s"\n'
            % (series, layers))
    with open(os.path.join(conf, 'local.conf'), 'w') as file:
        file.write(text)
    os.chdir(directory)
    configuration = bb.cookerdata.CookerConfiguration()
    configuration.env = {'PATH': os.environ['PATH']}
    builder = bb.cookerdata.CookerDataBuilder(configuration, False)
    builder.parseBaseConfiguration()
    files = [file for pattern in builder.data.getVar('BBFILES').split() for file in glob.glob(pattern)]
    recipes = [file for file in files if file.endswith('.bb')]
    appends = [file for file in files if file.endswith('.bbappend')]
    found = {}
    for recipe in sorted(recipes):
        mine = [file for file in appends if applies(file, recipe)]
        stores = builder.parseRecipeVariants(recipe, mine, layername='')
        for variant, store in stores.items():
            name = os.path.basename(recipe).split('.bb')[0].split('_')[0]
            found[name + ('-' + variant if variant else '')] = \
                None if store.getVar('__SKIPPED') else store
    used = [file for file in appends if any(applies(file, recipe) for recipe in recipes)]
    assert sorted(used) == sorted(appends), 'appends dangle: %s' % (set(appends) - set(used))
    return builder.data, found

def applies(append, recipe):
    name = os.path.basename(append)[:-len('.bbappend')]
    stem = os.path.basename(recipe)[:-len('.bb')]
    return stem.startswith(name[:-1]) if name.endswith('%') else stem == name

def check_asleep(config, recipes):
    assert 'integrity' not in (config.getVar('INHERIT') or ''), config.getVar('INHERIT')
    assert 'ima' not in (config.getVar('IMAGE_CLASSES') or '')
    for name in ['key-store', 'ima-policy', 'packagegroup-ima', 'integrity-initramfs']:
        assert recipes[name] is None, '%s is not skipped' % name
    for name, store in recipes.items():
        if store is not None and not name.startswith('imactl'):
            for variable in ['SRC_URI', 'EXTRA_OEMAKE', 'PACKAGECONFIG']:
                assert not (store.getVar(variable) or '').strip(), (name, variable)

def check_awake(config, recipes):
    skipped = [name for name, store in recipes.items() if store is None]
    assert not skipped, 'skipped: %s' % skipped
    ignored = config.getVar('BB_BASEHASH_IGNORE_VARS').split()
    for name in SECRET:
        assert name in ignored, '%s is part of the hashes of tasks' % name
    expression = 'OR' if 'blacksail' in config.getVar('LAYERSERIES_CORENAMES') else '|'
    licence = recipes['imactl'].getVar('LICENSE')
    assert licence == 'MIT %s Apache-2.0' % expression, licence
    kernel = recipes['linux-yocto']
    wanted = ['integrity', 'ima', 'modsign']
    if config.getVar('SIGNING_MODEL') != 'sample':
        wanted += ['evm', 'ima-modsig']
    assert kernel.getVar('INTEGRITY_KERNEL_FEATURES').split() == wanted
    for option in wanted:
        assert 'file://%s.scc file://%s.cfg' % (option, option) in kernel.getVar('SRC_URI')
    for kernel in kernel, recipes['linux-vendor']:
        assert 'CONFIG_MODULE_SIG_KEY=' in kernel.getVar('EXTRA_OEMAKE')
        assert 'integrity_check_kernel' in kernel.getVarFlag('do_configure', 'postfuncs')
    # another kernel's own configuration has them merged in
    functions = kernel.getVarFlag('do_configure', 'postfuncs').split()
    assert functions == ['integrity_merge_fragments', 'integrity_check_kernel'], functions
    assert not kernel.getVar('SRC_URI'), kernel.getVar('SRC_URI')
    assert 'plugins' in recipes['rpm'].getVar('PACKAGECONFIG')
    image, initramfs = recipes['integrity-image-minimal'], recipes['integrity-initramfs']
    assert 'ima_sign_rootfs' in image.getVarFlag('do_image', 'postfuncs')
    assert 'ima_sign_rootfs' not in (initramfs.getVarFlag('do_image', 'postfuncs') or '')
    assert '--xattrs' in image.getVar('IMAGE_CMD_TAR')
    evm = config.getVar('SIGNING_MODEL') != 'sample'
    assert ('--xattrs-include=security.*' in image.getVar('IMAGE_CMD_TAR')) == evm
    levels = 'x86-64-v2 x86-64-v3 x86-64-v4' if config.getVar('TUNE_FEATURES') else ''
    assert image.getVar('IMA_PREFLIGHT_CPU') == levels, image.getVar('IMA_PREFLIGHT_CPU')
    check_identity(image, 'do_rootfs')
    functions = recipes['ima-policy'].getVarFlag('do_package_write_rpm', 'postfuncs').split()
    assert functions[0] == 'ima_sign_packages', functions
    check_identity(recipes['ima-policy'], 'do_package_write_rpm')
    # no kernel under IMA runs what is in an SDK
    assert 'ima_sign_packages' in recipes['imactl'].getVarFlag('do_package_write_rpm', 'postfuncs')
    functions = recipes['imactl-nativesdk'].getVarFlag('do_package_write_rpm', 'postfuncs')
    assert 'ima_sign_packages' not in (functions or ''), functions
    for store, task in (recipes['key-store'], 'do_install'), (image, 'do_image'):
        check_identity(store, task)
        check_identity(store, task, 'EVM_IDENTITY')
    for name, task in {'ima-policy': 'do_package_write_rpm', 'key-store': 'do_prepare_keys',
            'linux-yocto': 'do_compile'}.items():
        check_shared(recipes[name], task)
    check_shared(recipes['key-store'], 'do_install')
    check_reparsed(recipes['key-store'])
    for name in ['imactl', 'imactl-init']:
        uri = recipes[name].getVar('SRC_URI')
        archive = 'imactl.tar.gz;sha256sum=00;striplevel=1;subdir=%s-' % name
        assert archive in uri or 'file://Cargo.lock;subdir=%s-' % name in uri, uri

    # a device needs the small program alone
    packages = recipes['packagegroup-ima'].getVar('RDEPENDS:packagegroup-ima').split()
    assert 'imactl-init' in packages and 'imactl' not in packages, packages
    assert config.getVar('LAYERRECOMMENDS_imactl').split() == ['tpm-layer', 'tpm2']

def check_devel(config, recipes):
    """Sample keys, and the same words on each command line that a variable leads to."""
    assert config.getVar('SIGNING_MODEL') == 'sample'
    for name in ['QB_KERNEL_CMDLINE_APPEND', 'APPEND', 'UBOOT_EXTLINUX_KERNEL_ARGS', 'UKI_CMDLINE']:
        words = config.getVar(name).split()
        assert words == ['ima_policy=tcb', 'ima_appraise=log'], (name, words)
    assert 'tar' in config.getVar('CORE_IMAGE_EXTRA_INSTALL').split()
    assert config.getVar('PACKAGE_CLASSES') == 'package_rpm'
    features = recipes['linux-yocto'].getVar('INTEGRITY_KERNEL_FEATURES').split()
    assert 'no-bootparam' not in features, features

def check_identity(store, task, name='IMA_IDENTITY'):
    """A task sees the keys change."""
    ignored = set(store.getVar('BB_BASEHASH_IGNORE_VARS').split())
    _, generated, values = bb.data.generate_dependencies(store, ignored)[:3]
    assert name in generated[task], sorted(generated[task])
    # what it comes to: an expression stays the same when the keys change
    assert values[name] == store.getVar(name), values[name]

def check_shared(store, task):
    """Certificates alone take from shared state what was signed with the keys: nothing in the task's hash
    tells which it is."""
    ignored = set(store.getVar('BB_BASEHASH_IGNORE_VARS').split())
    _, generated, _ = bb.data.generate_dependencies(store, ignored)[:3]
    found, todo = set(), [task]
    while todo:
        more = set(generated.get(todo.pop(), ())) - found
        found |= more
        todo += more
    assert 'IMA_IDENTITY' in found or task == 'do_compile', (task, found)
    told = {'SIGNING_MODEL', 'INTEGRITY_SIGNS'}.intersection(found)
    assert not told, (task, told)

def check_reparsed(store):
    """The parser's cache is of no use where the certificates have changed."""
    files = [file for file, _ in store.getVar('__depends', False)]
    wanted = '/identity' if store.getVar('SIGNING_MODEL') == 'sample' else '/x509_ima.der'
    assert any(file.endswith(wanted) for file in files), files

def write_scripts(recipes, directory):
    """Each shell function as a script of its own, as BitBake would run it."""
    for name, store in recipes.items():
        if store is None:
            continue
        for key in store.keys():
            flags = store.getVarFlags(key) or {}
            if not flags.get('func') or flags.get('python'):
                continue
            body = (store.getVar(key) or '').strip()
            if body in ('', ':'):
                continue
            with open(os.path.join(directory, '%s.%s.sh' % (name, key)), 'w') as file:
                file.write('#!/bin/sh\nset -e\n%s() {\n%s\n}\n%s\n' % (key, body, key))

def main():
    layer, scripts = map(os.path.abspath, sys.argv[1:])
    logging.getLogger('BitBake').setLevel(logging.ERROR)
    logging.basicConfig(format='%(levelname)s: %(message)s')
    for series in SERIES:
        for name, text in CONFIGURATIONS.items():
            directory = tempfile.mkdtemp(prefix='imactl-layer-')
            try:
                config, recipes = parse(directory, layer, series, text)
                if name == 'asleep':
                    check_asleep(config, recipes)
                else:
                    check_awake(config, recipes)
                if name == 'devel':
                    check_devel(config, recipes)
                if name == 'user':  # all variables are set, so nothing is an empty list
                    write_scripts(recipes, scripts)
            finally:
                os.chdir('/')
                shutil.rmtree(directory)
            print('%s, %s: %d recipes' % (series, name, len(recipes)))

if __name__ == '__main__':
    main()
