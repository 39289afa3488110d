"""What a child process of the tests answers with. It imports nothing heavy, so that the child is there at once."""

from __future__ import annotations

import os
import signal

from robustcodec.execution.children import Say


def echo(prefix: str):  # type: ignore[no-untyped-def]
    """Repeats what it is told after ``prefix``; ends at ``die``."""

    def answer(message: str, say: Say) -> str:
        say("listening")
        if message == "die":
            os.kill(os.getpid(), signal.SIGTERM)
        return prefix + message

    return answer
