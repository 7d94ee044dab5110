"""Start a process that belongs to nobody: a child of a child whose parent has ended.

The system adopts such a process and collects it when it ends, however long the one that asked for it lives. Prints the
process id. Run as a plain file with the standard library only.
"""

import subprocess
import sys


def main(command: list[str]) -> int:
    """Start the command in a session of its own and return without waiting for it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    sys.stdout.write(f"{child.pid}\n")
    child.returncode = 0  # it is not ours any more: no complaint that it still runs
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
