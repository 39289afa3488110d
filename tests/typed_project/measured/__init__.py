"""Uses robustcodec, and brings a plugin of each kind; type checkers alone read it (``.ci/run``)."""
