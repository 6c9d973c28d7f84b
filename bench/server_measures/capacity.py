"""How many users a server, or several that share them, refresh per second, and what each user costs."""

import argparse
import os
import time
from typing import Any

from server_measures.city import await_, city


def measure_capacity(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with city(options) as around:
        for kind in ("event", "event", "pattern"):
            around.refreshed.clear()
            used_s = around.processor_s()
            if kind == "event":
                for n in range(options.users):
                    around.event(f"u{n}")
                around.flush()
            else:
                around.crowd(version=len(rows) + 1)
            await_(lambda: bool(around.refreshed), "the first refresh")
            started_s, first = time.time(), len(around.refreshed)
            give_up_s = started_s + options.pass_limit_s
            while len(around.refreshed) < options.users and time.time() < give_up_s:
                time.sleep(0.01)
            took_s, done = time.time() - started_s, len(around.refreshed)
            rows.append(
                {
                    "trigger": f"{kind} (pass {len(rows) + 1})",
                    "users": done,
                    "users_per_s": max(done - first, 0) / took_s,
                    "processor_us_per_user": 1e6 * (around.processor_s() - used_s) / max(done, 1),
                    "machine_load": os.getloadavg()[0],
                    "resident_mb": around.resident_mb(),
                }
            )
    return rows
