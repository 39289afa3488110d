"""Codec families, one per file, and what they stand on."""

from robustcodec.zoo._compressai import lighten

lighten()
