"""The README's tables, from run folders and from the cards of the bundled codecs.

robustcodec run && python benchmarks/readme_tables.py leaderboard runs/default
robustcodec run benchmarks/attacks.toml && python benchmarks/readme_tables.py leaderboard runs/attacks
robustcodec run benchmarks/clips.toml && python benchmarks/readme_tables.py attacks runs/clips
python benchmarks/readme_tables.py codecs
python benchmarks/readme_tables.py video
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pandas as pd

from robustcodec.reporting.tables import attack_table, leaderboard
from robustcodec.reporting.text import bounded, place, to_markdown
from robustcodec.running.store import Store
from robustcodec.scores.robustness import BOARD
from robustcodec.studies.defenses_report import HOLDS, TIMES, contenders
from robustcodec.studies.defenses_report import table as table_of_defenses

LEADERBOARD = ["rank", "codec", "defense", "access", "bpp", "psnr", "robust_psnr", "drop", "vi_db", "rate_ratio"]
ATTACKS = ["threat", "codec", "attack", "vi_db", "vi_low", "vi_high", "delta_psnr", "rate_ratio", "input_psnr"]
CARDS = Path(__file__).parents[1] / "zoo" / "cards"


def codecs() -> str:
    """Rate points of the bundled codecs and, once a ladder, its BD-rates against JPEG."""
    lines = ["| codec | λ | bpp | PSNR (dB) | MS-SSIM | BD-rate in PSNR | BD-rate in MS-SSIM |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in sorted(CARDS.glob("*.toml")):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        if card["training"]["frames"] > 1:  # see video()
            continue
        kodak, gain = card["measured"]["kodak"], card["measured"]["bd_rate_against_jpeg_percent"]
        first = "-q1" in path.stem
        gains = f" {gain['psnr']:+.1f} % | {gain['ms_ssim']:+.1f} % |" if first else " | |"
        scores = f"{kodak['bpp']:.3f} | {kodak['psnr']:.2f} | {kodak['ms_ssim']:.4f} |"
        lines.append(f"| {path.stem} | {card['training']['lmbda']:g} | {scores}{gains}")
    return "\n".join(lines) + "\n"


def video() -> str:
    """Rate points of the bundled video codecs on the test clips."""
    lines = ["| codec | λ | γ | ρ | bpp | PSNR (dB) | MS-SSIM | LPIPS (squeeze) |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in sorted(CARDS.glob("*.toml")):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        if card["training"]["frames"] == 1:
            continue
        weights = " | ".join(f"{card['training'][key]:g}" for key in ("lmbda", "gamma", "rho"))
        m = card["measured"]["clips_test"]
        scores = f"{m['bpp']:.4f} | {m['psnr']:.2f} | {m['ms_ssim']:.4f} | {m['lpips_squeeze']:.4f}"
        lines.append(f"| {path.stem} | {weights} | {scores} |")
    return "\n".join(lines) + "\n"


def defenses(rows: pd.DataFrame, times: pd.DataFrame | None) -> str:
    """Every defense of the codecs that met it adaptively, a table for each threat."""
    lines, _ = table_of_defenses(rows, times)
    met = contenders(rows)
    shown = met[met["codec"].isin(rows[rows["access"] != "oblivious"]["codec"])].drop(columns=["data", "codec"])
    lines = lines.rename(columns={"adaptive": "gain", "encode_factor": "encode", "bd_rate": "BD-rate %"})
    lines["gain holds"] = ["yes" if verdict == HOLDS else "no" for verdict in lines["verdict"]]
    both = shown.merge(lines[["threat", "defense", "BD-rate %", "encode", "gain", "gain holds"]], "left")
    tables = (f"{threat}\n\n{to_markdown(one.drop(columns='threat'))}" for threat, one in both.groupby("threat"))
    return "\n".join(tables)


def table(rows: pd.DataFrame, which: str) -> str:
    """A run's leaderboard or attacks, the columns that the README shows."""
    if which == "leaderboard":
        lines = leaderboard(rows)
        printed = bounded(lines).assign(rank=[place(line) for line in lines.to_dict("records")])
        boards = printed.groupby(BOARD)
        return "\n".join(f"{', '.join(of)}\n\n{to_markdown(b[LEADERBOARD])}" for of, b in boards)
    attacks = attack_table(rows).sort_values(["threat", "codec", "vi_db"], ascending=[False, True, True])
    return to_markdown(attacks[ATTACKS])


def main() -> None:
    """Print one table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["leaderboard", "attacks", "codecs", "video", "defenses"])
    parser.add_argument("run", type=Path, nargs="?", help="run folder of a leaderboard or of attacks")
    options = parser.parse_args()
    if options.table in ("codecs", "video"):
        print(codecs() if options.table == "codecs" else video())
        return
    if options.run is None:
        parser.error(f"{options.table} needs a run folder, such as runs/default")
    store = Store(options.run)
    rows = store.frame(store.grid().cells())
    if options.table == "defenses":
        times = options.run / TIMES
        print(defenses(rows, pd.read_csv(times) if times.is_file() else None))
        return
    print(table(rows, options.table))


if __name__ == "__main__":
    main()
