"""How results are shown: tables, plots, clips, exports."""
