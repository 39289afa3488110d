"""Leaderboards as data: ``board.toml`` says what is measured and what ranks, ``results/*.json`` what came of it.

``board`` and ``entry`` are the files; ``score`` ranks; ``founding`` makes boards, ``submission`` entries of runs;
``tables`` and ``publication`` show them; ``audit`` checks that all fits together, ``verification`` measures again;
``merging`` unites and compares.
"""
