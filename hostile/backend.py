"""The Durable Task SDK's own backend in a process of its own: ``python -m hostile.backend PORT``."""

from __future__ import annotations

import sys
import threading

from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend


def main() -> None:
    """Serve until killed."""
    InMemoryOrchestrationBackend(port=int(sys.argv[1])).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
