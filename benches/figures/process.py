"""What a process takes, as Linux tells it."""

import os
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


class Process:
    def __init__(self, pid):
        self.pid = pid
        self.folder = Path(f"/proc/{pid}")

    def resident(self):
        return self._status("VmRSS")

    def anonymous(self):
        """What is not a file's: cannot be had back by dropping the program's own pages."""
        return self._status("RssAnon")

    def peak(self):
        """The highest that the resident size was since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self):
        (self.folder / "clear_refs").write_text("5")

    def cpu(self):
        """Seconds on a core so far, with those of children that ended."""
        return sum(int(field) for field in self._stat()[11:15]) * TICK

    def files(self):
        return len(os.listdir(self.folder / "fd"))

    def family(self):
        """How many processes it is, with its descendants."""
        parents = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parents.setdefault(int(Process(folder.name)._stat()[1]), []).append(int(folder.name))
                except (FileNotFoundError, ProcessLookupError):
                    pass  # it ended meanwhile
        waiting, found = [self.pid], 0
        while waiting:
            found += 1
            waiting += parents.get(waiting.pop(), [])
        return found

    def _stat(self):
        # The program's name, in brackets, may have blanks.
        return (self.folder / "stat").read_text().rpartition(")")[2].split()

    def _status(self, name):
        for line in (self.folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise KeyError(name)
