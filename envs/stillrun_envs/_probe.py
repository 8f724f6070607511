"""Tells what a Python is, as one line of JSON. Run by the Python asked about: standard library, 3.6 on."""

# ruff: noqa: PTH100, PTH120 - pathlib would cost the asked Python another import

import json
import os
import sys
import sysconfig

OPTIONAL = ("bz2", "ctypes", "hashlib", "lzma", "sqlite3", "ssl", "zlib")


def _has(name):  # type: ignore[no-untyped-def] # read by Pythons older than these annotations
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _libc():  # type: ignore[no-untyped-def] # as above
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


version = ".".join(map(str, sys.version_info[:3]))
if sys.version_info[3] != "final":
    version += sys.version_info[3][0] + str(sys.version_info[4])
variables = sysconfig.get_config_vars()
facts = {
    "version": version,
    "implementation": sys.implementation.name,
    "soabi": variables.get("SOABI") or "",
    "platform": sysconfig.get_platform(),
    "libc": _libc(),  # type: ignore[no-untyped-call] # as above
    "base_executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "stdlib": os.path.dirname(os.path.abspath(os.__file__)),
    "include": sysconfig.get_path("include", vars={"installed_base": sys.base_prefix}) or "",
    "libdir": variables.get("LIBDIR") or "",
    "path": [entry for entry in sys.path if entry],
    "modules": [name for name in OPTIONAL if _has(name)],  # type: ignore[no-untyped-call] # as above
}
sys.stdout.write(json.dumps(facts) + "\n")
