"""How much damage a small perturbation does to a learned codec, and what a defense buys at what cost.

import robustcodec

codec = robustcodec.load("bmshj2018-hyperprior.tiny-q2")
frame = robustcodec.run("grid.toml").frame        # pandas: one row per cell and sample
board = robustcodec.read("runs/default").leaderboard()
outcome = robustcodec.attack("photo.png", "bmshj2018-hyperprior.tiny-q2", attack="pgd", threat="36dB")
"""

from robustcodec.public.boards import leaderboard
from robustcodec.public.loading import load
from robustcodec.public.runs import Run, read, run

__version__ = "0.2.0"
__all__ = ["Outcome", "Outcomes", "Run", "attack", "leaderboard", "load", "read", "run"]

TYPE_CHECKING = False  # that of typing would be one more public name; type checkers take it for true
if TYPE_CHECKING:
    from robustcodec.studies.attack import attack
    from robustcodec.studies.attack_outcome import Outcome, Outcomes
else:  # type checkers do not see it, and so know which names there are

    def __getattr__(name):
        """``attack`` and what it gives, when they are first asked for: what they need takes seconds to import."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from robustcodec.studies import attack

        return getattr(attack, name)

    def __dir__():
        return sorted({*globals(), *__all__})


del TYPE_CHECKING
