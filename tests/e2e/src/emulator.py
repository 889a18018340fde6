"""The emulator, ended with the process that started it, and with its queues fixed.

Its queues are changed by two threads, one that serves requests and one that hands messages to functions. The first takes no lock,
and messages that it enqueues while the second rebuilds a queue's list are lost.
"""

import ctypes
import functools
import runpy
import threading

from ministack.services import sqs

PR_SET_PDEATHSIG, SIGTERM = 1, 15


def locked(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        with sqs._queues_lock:
            return function(*args, **kwargs)

    return run


ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
sqs._queues_lock = threading.RLock()
for name in ("_collect_msgs", "_dlq_sweep", "_expire_retained"):
    setattr(sqs, name, locked(getattr(sqs, name)))
for name, handler in sqs._HANDLERS.items():
    # Receiving waits; what it does to a queue is locked above.
    if name != "ReceiveMessage":
        sqs._HANDLERS[name] = locked(handler)
runpy.run_module("ministack", run_name="__main__")
