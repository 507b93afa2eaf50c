"""policy.py ARGUMENT...: keylime-policy of the package keylime."""

import sys
import types

# Keylime imports it for signatures of policies, which there are none of; it is not on PyPI
sys.modules["gpg"] = types.ModuleType("gpg")

from keylime.cmd.keylime_policy import main  # noqa: E402

main()
