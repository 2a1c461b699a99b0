"""Runs the code on its standard input with next to nothing allowed. A program of its own, started by `sandbox`.

    python -I jail.py '{"folder": …, "seconds": …, "megabytes": …, "output": …, "required": …}'

Rlimits bound time, memory and files; no process can be started. Landlock leaves the libraries to be read and one folder to be
written, and no TCP connection, no signal to others, no file of the service's: the pod's token is one.
"""

import ctypes
import json
import os
import resource
import sys
import sysconfig

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on x86-64 and ARM
NO_NEW_PRIVILEGES = 38
BENEATH_PATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
FIRST_FILE_RIGHTS = (1 << 13) - 1
REFER = 1 << 13
TCP = 0b11  # bind, connect
OTHERS = 0b11  # abstract sockets, signals


class Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scope", ctypes.c_uint64)]


class Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    answer = libc.syscall(number, *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def landlock_version():
    """0 where the kernel has none."""
    try:
        return call(CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def landlock(folder, version):
    """Each version of Landlock can refuse more; what this kernel cannot refuse is left out."""
    files = FIRST_FILE_RIGHTS | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    files |= IOCTL_DEVICE if version >= 5 else 0
    rules = Ruleset(files, TCP if version >= 4 else 0, OTHERS if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = call(CREATE_RULESET, ctypes.byref(rules), size, 0)
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"), "/usr/lib", "/lib", "/lib64", "/usr/local/lib"}
    allowed = [(path, READ_FILE | READ_DIR) for path in libraries if os.path.isdir(path)]
    allowed.append((folder, files & ~EXECUTE))
    for path, rights in allowed:
        beneath = Beneath(rights, os.open(path, os.O_PATH | os.O_CLOEXEC))
        call(ADD_RULE, ruleset, BENEATH_PATH, ctypes.byref(beneath), 0)
        os.close(beneath.folder)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def limit(what, most):
    resource.setrlimit(what, (most, most))


def confine(folder, seconds, megabytes, output, required):
    version = landlock_version()
    if version == 0 and required:
        raise SystemExit("this node's kernel has no Landlock (Linux 5.13 and later), and `isolation` is `required`")
    if version > 0:
        landlock(folder, version)
    limit(resource.RLIMIT_CPU, seconds + 1)
    limit(resource.RLIMIT_AS, megabytes * 1024 * 1024)
    limit(resource.RLIMIT_FSIZE, output)
    limit(resource.RLIMIT_NOFILE, 64)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NPROC, 0)  # one that is there stays; no other is started


def main():
    code = sys.stdin.read()
    confine(**json.loads(sys.argv[1]))
    sys.argv = ["code"]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
