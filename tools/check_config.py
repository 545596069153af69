"""Look at a configuration before Snakemake does: `python tools/check_config.py config/mine.yaml`.

Snakemake reads the file that --configfile names before a line of this workflow runs. It runs Python that stands in a
file with the key __use_yte__, hangs where YAML's aliases multiply, and ends in a traceback where the file is a folder,
UTF-16 or nested a thousand times. Here each of these is one line; `make` asks first.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.pipeline.schemas import check_schema, read_yaml  # noqa: E402
from aggregated_posterior.storage import DataError  # noqa: E402


def check_config(path: str) -> None:
    """Raise `DataError` where a file is no configuration; what it leaves out comes from config/config.yaml."""
    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
    check_schema(read_yaml(path), {**schema, "required": []}, path)


if __name__ == "__main__":
    try:
        for path in sys.argv[1:]:
            check_config(path)
    except DataError as error:
        sys.exit(f"error: {error}")
