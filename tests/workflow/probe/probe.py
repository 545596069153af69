"""Write down everything that the result depends on: a wildcard, the part each input plays, a module, a package."""

from pathlib import Path

import probe_module
import probe_package

minuend, subtrahend = (int(Path(snakemake.input[name]).read_text()) for name in ("minuend", "subtrahend"))
Path(snakemake.output.text).write_text(
    f"seed {snakemake.wildcards.seed}, difference {minuend - subtrahend}, "
    f"module {probe_module.VALUE}, package {probe_package.VALUE}\n"
)
