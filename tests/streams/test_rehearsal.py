"""No kernel is compiled in traffic: after the rehearsal the stages meet no column that it did not."""

import subprocess
import sys

# In a process of its own: what other tests have compiled would hide what the rehearsal leaves out.
SCRIPT = """
import sys
from itertools import islice

from numba.core.registry import CPUDispatcher

from chronotope.simulator.settings import SimulatorSettings
from chronotope.simulator.simulation import Simulation
from schemas.json_wire import encode
from schemas.validation import EventLimits
from streams.decoding import EventDecoder
from streams.pipeline import PatternPipeline
from streams.engine.fetched_records import FetchedRecord
from streams.rehearsal import warm_up


def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith(("processors.", "streams."))]
    kernels = {each for module in modules for each in vars(module).values() if isinstance(each, CPUDispatcher)}
    return {(each.py_func.__module__, each.py_func.__qualname__, sign) for each in kernels for sign in each.signatures}


warm_up()
rehearsed = compiled()
events = Simulation(SimulatorSettings(seed=7)).events()
pipeline, decoder = PatternPipeline(partitions=3), EventDecoder(EventLimits())
patterns = 0
for size in (1, 10, 500, 3_000, 2, 3_000):
    batch = list(islice(events, size))
    values = [encode(event) for event in batch]
    records = [FetchedRecord("", 0, at, 0, 0, None, value, ()) for at, value in enumerate(values)]
    columns, _ = decoder.decode(records, 2_000_000_000_000)
    assert len(columns) == len(batch)
    patterns += len(pipeline.update(batch)) + len(pipeline.examine(20))
    for stage in (stage for stages in pipeline.stages.values() for stage in stages):
        stage.load(stage.to_bytes())
assert patterns > 500, patterns
assert len(rehearsed) > 50, len(rehearsed)
print(*(" ".join(map(str, each)) for each in compiled() - rehearsed), sep="\\n")
"""


def test_after_the_rehearsal_a_stream_meets_no_kernel_that_is_not_compiled() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
