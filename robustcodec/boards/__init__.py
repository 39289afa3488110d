"""Leaderboards as data: ``board.toml`` says what is measured and what ranks, ``results/*.json`` what came of it.

``board`` and ``entry`` are the files; ``score`` ranks; ``founding`` makes boards, ``submission`` entries of runs;
``tables`` and ``publication`` show them; ``audit`` checks that all fits together, ``verification`` measures again;
``merging`` unites and compares. What others found of entries is in ``breaks/*.json``: ``breaks`` is the file,
``change`` a clip in it, ``best_known`` what counts; ``given`` and ``breaking`` take clips, ``break_audit``,
``break_verification`` and ``break_merging`` are as those of entries.
"""
