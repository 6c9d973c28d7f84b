"""The parts that are compiled beside each other."""

import json
import subprocess
import sys
from itertools import combinations

import pytest

from chronotope.kernels import PARTS

# Every kernel that a part can reach: what it compiled or loaded, and whatever the code of those names.
REACHED = """
import gc, json, sys, types
from chronotope.kernels import PARTS
from numba.core.dispatcher import Dispatcher

PARTS[sys.argv[1]]()
reached, waiting = {}, [each for each in gc.get_objects() if isinstance(each, Dispatcher) and each.overloads]
while waiting:
    function = waiting.pop().py_func
    if reached.setdefault(f"{function.__module__}.{function.__qualname__}", function) is not function:
        continue
    known = dict(function.__globals__)
    known |= zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()))
    values = [known.get(name) for name in (*function.__code__.co_names, *function.__code__.co_freevars)]
    for module in [value for value in values if isinstance(value, types.ModuleType)]:
        values += [vars(module).get(name) for name in function.__code__.co_names]
    for value in values:
        if isinstance(value, Dispatcher) and f"{value.py_func.__module__}.{value.py_func.__qualname__}" not in reached:
            waiting.append(value)
print(json.dumps([name for name in reached if not name.startswith("numba.")]))
"""


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    processes = {
        name: subprocess.Popen([sys.executable, "-c", REACHED, name], stdout=subprocess.PIPE) for name in PARTS
    }
    return {name: set(json.loads(process.communicate(timeout=300)[0])) for name, process in processes.items()}


def test_each_part_has_kernels_of_its_own(reached: dict[str, set[str]]) -> None:
    assert {name: len(kernels) > 5 for name, kernels in reached.items()} == dict.fromkeys(PARTS, True)


def test_no_two_parts_save_the_same_kernel(reached: dict[str, set[str]]) -> None:
    shared = {(a, b): reached[a] & reached[b] for a, b in combinations(reached, 2)}
    assert {pair: names for pair, names in shared.items() if names} == {}
