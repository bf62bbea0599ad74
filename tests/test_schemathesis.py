"""Schemathesis makes requests of all kinds from the OpenAPI document, and believes what it says.

IMAGEAPI_TEST_SCHEMATHESIS says how many for each operation, IMAGEAPI_TEST_SEED which. In CI there
is a second seed, and a client without a token; each run takes some twenty seconds.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import IMAGEAPI, Service
from factories import HEADER, PROJECT, claims, signed
from imageapi.auth.claims import ABILITIES

COUNT = os.environ.get("IMAGEAPI_TEST_SCHEMATHESIS") or "40"
SEED = int(os.environ.get("IMAGEAPI_TEST_SEED") or 0)
SCHEMATHESIS = IMAGEAPI.with_name("schemathesis")
TOKEN = signed(HEADER, claims("fuzzed", *ABILITIES))
#: Without a token nothing is accepted, however valid; all else must be as documented.
NOBODY = ("--exclude-checks", "positive_data_acceptance")
AUTHORIZED = ("--header", f"Authorization: Bearer {TOKEN}")
RUNS = [pytest.param(SEED, AUTHORIZED, id="token")]
if "CI" in os.environ:
    RUNS += [
        pytest.param(SEED + 1, AUTHORIZED, id="token, another seed"),
        pytest.param(SEED, NOBODY, id="no token"),
    ]


@pytest.mark.parametrize(("seed", "headers"), RUNS)
def test_service_does_what_its_document_says(
    service: Service, tmp_path: Path, seed: int, headers: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [
            SCHEMATHESIS,
            *("--config-file", PROJECT / "tests/schemathesis.toml", "--no-color"),
            *("run", f"{service.address}/openapi.json", "--checks", "all"),
            *headers,
            *("--max-examples", COUNT, "--seed", str(seed), "--workers", "1"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: 19$", done.stdout, re.MULTILINE), done.stdout
    generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert generated is not None, done.stdout
    assert int(generated[1]) == int(generated[2]) > 500
