"""replay.py LIST PCR: replays an ASCII list with Keylime's parser, and compares the value of PCR 10 of SHA-256."""

import sys
import types

# Keylime imports it for signatures of policies, which there are none of; it is not on PyPI
sys.modules["gpg"] = types.ModuleType("gpg")

from keylime.common.algorithms import Hash  # noqa: E402
from keylime.ima import ima  # noqa: E402

with open(sys.argv[1], encoding="utf-8") as file:
    lines = file.read().splitlines()
value, failure = ima.process_measurement_list(None, lines, pcrval=sys.argv[2], hash_alg=Hash.SHA256)
sys.exit(1 if failure else 0)
