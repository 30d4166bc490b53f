"""The `restorevar` command. Parses options, calls one function per command, turns faults into one line each.

One file per group of commands. Whatever is heavy is imported inside the commands, so that `--help` and `--version`
answer at once.
"""

# Each registers its commands, in the order in which `--help` tells of them.
from . import restoring, scaling, serving, diagnosing, weights, exporting, data, training  # noqa: I001
from . import evaluating, peers, report, study, analyzing, flicker, benchmarking, load_testing, doctor, completing
from .common import app
from .main import main

__all__ = [
    "analyzing",
    "app",
    "benchmarking",
    "completing",
    "data",
    "diagnosing",
    "doctor",
    "evaluating",
    "exporting",
    "flicker",
    "load_testing",
    "main",
    "peers",
    "report",
    "restoring",
    "scaling",
    "serving",
    "study",
    "training",
    "weights",
]
