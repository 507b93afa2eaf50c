# SPDX-License-Identifier: MIT OR Apache-2.0

BBIMPORTS = ["cookerlog", "kconfig", "unpack"]
