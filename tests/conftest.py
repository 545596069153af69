"""What holds for every test: it finds the processor's arithmetic as a fresh process does."""

import sys

import pytest

from aggregated_posterior import numerics


def pytest_addoption(parser):
    parser.addoption(
        "--numerics",
        choices=numerics.MODES,
        default="portable",
        help="arithmetic of the tests' process; `native` leaves the environment's own choice of instructions",
    )


def pytest_configure(config):
    # Before any test module, and so NumPy, is imported.
    numerics.apply(config.getoption("--numerics"))


@pytest.fixture(autouse=True)
def subnormal_numbers_are_numbers():
    """A script's process flushes subnormal numbers to zero; run inside a test, it leaves that on for those that follow.

    Hypothesis then refuses to draw floats, in whichever test comes next in that process.
    """

    def restore():
        if "torch" in sys.modules:
            sys.modules["torch"].set_flush_denormal(False)

    restore()
    yield
    restore()
