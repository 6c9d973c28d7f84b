"""The command line: fast, helpful, and one clear line for every mistake."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from chronotope.cli.main import main
from chronotope.datasets import FORMATS
from chronotope.kafka.reading import ends_of, read_to
from chronotope.local.embedded import EmbeddedBroker
from schemas.events import Item
from schemas.json_wire import encode
from schemas.settings import KafkaSettings
from schemas.topics import CATALOG, EVENTS

COMMANDS = [
    ["demo"], ["up"], ["worker"], ["serve"], ["topics", "apply"], ["topics", "check"], ["validate"], ["produce"],
    ["replay"], ["evaluate"], ["train"], ["dlq", "inspect"], ["dlq", "redrive"], ["state", "inspect"],
    ["state", "reset"], ["doctor"], ["tune"], ["pseudonym"],
]  # fmt: skip


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command line in this process, which spares an interpreter per case."""
    monkeypatch.setattr("chronotope.cli.main.end_on_signals", lambda: None)

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.argv", ["chronotope", *arguments])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(run, command: list[str]):
    done = run(*command, "--help")
    assert done.code == 0
    assert f"Example: chronotope {' '.join(command)}" in " ".join(done.out.split())


@pytest.mark.parametrize("command", ["demo", "validate", "replay", "evaluate", "train", "tune"])
def test_help_of_a_command_that_reads_files_names_every_format(run, command: str):
    words = " ".join(run(command, "--help").out.split())
    assert f"{', '.join([*FORMATS][:-1])} or {[*FORMATS][-1]}" in words


@pytest.mark.parametrize("arguments", [[], ["topics"], ["dlq"], ["state"]], ids=" ".join)
def test_without_a_command_the_help_is_shown(run, arguments: list[str]):
    done = run(*arguments)
    assert done.code == 2
    assert done.err.startswith("Usage: ") and "\nCommands:\n" in done.err


def test_version_is_that_of_the_installed_package(run):
    done = run("--version")
    assert (done.code, done.out) == (0, f"chronotope {version('chronotope')}\n")


def test_start_of_the_command_line_loads_nothing_heavy():
    code = (
        "import sys; import chronotope.cli.main; "
        "print([name for name in ('torch', 'numba', 'faust', 'sklearn', 'confluent_kafka') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "--rate", "fast"], "neither 'max' nor a positive number"),
        (["demo", "--rate", "-1"], "neither 'max' nor a positive number"),
        (["demo", "--data", "x.csv"], "--data needs --format"),
        (["demo", "--format", "csv"], "--format needs --data"),
        (["demo", "--data", "none.csv", "--format", "csv"], "none.csv: no such file"),
        (["demo", "--broker", "rabbit"], "'embedded' or 'kafka'"),
        (["demo", "--duration", "0"], "--duration"),
        (["replay", "--format", "csv"], "Missing option '--data'"),
        (["replay", "--data", "x", "--format", "xml"], "unknown format 'xml': one of foursquare"),
        (["validate", "--data", "none.csv", "--format", "csv"], "none.csv: no such file"),
        (["produce", "--user", "u"], "--user and --item come together"),
        (["produce", "--user", "u", "--item", "i", "--lat", "1"], "--lat and --lon come together"),
        (["produce", "--user", "u", "--item", "i", "--lat", "91", "--lon", "0"], "less than or equal to 90"),
        (["evaluate", "--data", "x", "--format", "csv", "--strategies", "oracle"], "unknown strategy 'oracle'"),
        (["evaluate", "--data", "x", "--format", "csv", "--ab", "fused,oracle"], "two of the strategies"),
        (["evaluate", "--data", "x", "--format", "csv", "--strategies", "fused-after-60"], "needs mode request"),
        (["state", "reset"], "--yes"),
        (["nonsense"], "No such command 'nonsense'"),
        (["demo", "--nonsense"], "No such option: --nonsense"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_wrong_input_is_one_line_and_exit_code_2(run, arguments: list[str], what: str):
    done = run(*arguments)
    assert done.code == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("chronotope: error: ")
    assert what in line


@pytest.mark.parametrize(
    ("format", "text", "what"),
    [
        ("csv", "user,item,time\na,x,1\na,x\n", "data:3: has 2 columns, 3 expected"),
        ("csv", "user,item,time\na,x,1\na,y,soon\n", "data:3: time is 'soon', not a time"),
        ("csv", "user,item\na,x\n", "data:1: the header lacks a column for time"),
        ("csv", "user,item,time,lat,lon\na,x,1,91,0\n", "data:2: lat is '91', outside -90 to 90"),
        ("csv", "user,item,time\na,x,1\nb,x,2\n", "data: no event after the warm-up has a user with an earlier event"),
        ("csv", "", "data: is empty"),
        ("jsonl", '{"event_id": 1', "data:1: Input data was truncated"),
        ("sessions", "\x1f\x8b", "data"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_clear_line_of_the_evaluation(run, tmp_path: Path, format: str, text: str, what: str):
    (tmp_path / "data").write_bytes(text.encode("latin-1"))
    done = run("evaluate", "--data", str(tmp_path / "data"), "--format", format, "--strategies", "counter")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"chronotope: error: {tmp_path}/{what}")


def test_a_report_that_cannot_be_drawn_is_said_before_the_evaluation_runs(run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("evaluate", "--data", "none.csv", "--format", "csv", "--report", str(tmp_path / "report"))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "chronotope: error: --report draws with matplotlib: pip install 'chronotope[report]'"
    ]


@pytest.mark.parametrize("places", [False, True])
def test_any_csv_is_evaluated_by_one_command(run, tmp_path: Path, places: bool):
    rows = [f"u{n % 3},i{n % 2},{n * 60}" + (f",40.{n % 2},-74,bar,a bar" if places else "") for n in range(60)]
    header = "user,item,time" + (",lat,lon,category,text" if places else "")
    path, out = tmp_path / "any.csv", tmp_path / "out.json"
    path.write_text("\n".join([header, *rows]))
    names = "counter,content,spatial,fused"
    done = run(
        "evaluate",
        "--data",
        str(path),
        "--format",
        "csv",
        "--strategies",
        names,
        "--ab",
        "fused,counter",
        "--json",
        str(out),
    )
    assert done.code == 0, done.err
    answer = json.loads(out.read_bytes())
    assert list(answer["strategies"]) == names.split(",") and answer["scored"] == 48
    assert answer["strategies"]["fused"]["all"]["acc@5"] == 1.0
    assert answer["ab"]["first"] == "fused" and "A/B, hit rate at 10" in done.out


def test_evaluate_says_that_events_it_ranks_would_be_rejected(run, tmp_path: Path):
    path = tmp_path / "any.csv"
    rows = (f"u{n % 3},i{n % 2},{1735689600 + n},{'view' if n % 3 else 'stare'}\n" for n in range(60))
    path.write_text("user,item,time,action\n" + "".join(rows))
    done = run("evaluate", "--data", str(path), "--format", "csv", "--strategies", "counter")
    assert done.code == 0
    assert "the workers would reject some of the 60 events (20 × unknown_action); here they all count" in done.err


def test_results_are_whole_in_a_pipe_and_those_of_the_main_strategies_fit_a_terminal(run, tmp_path: Path):
    path = tmp_path / "any.csv"
    path.write_text("user,item,time\n" + "".join(f"u{n % 3},i{n % 2},{n * 60}\n" for n in range(60)))
    names = "backoff_markov,counter+markov,backoff_markov+periodic"
    done = run("evaluate", "--data", str(path), "--format", "csv", "--strategies", names.replace(",", ", "))
    rows = [line for line in done.out.splitlines() if line.startswith(("backoff", "counter"))]
    assert [row.split()[0] for row in rows] == names.split(",")
    assert all(len(row.split()) == 8 for row in rows)
    assert len(rows[0]) + len("backoff_markov") - len("backoff_markov+periodic") < 80


@pytest.mark.parametrize(("command", "option"), [("evaluate", "--json"), ("demo", "--json"), ("train", "--out")])
def test_what_could_not_be_written_is_told_before_the_work(run, tmp_path: Path, command: str, option: str):
    path = tmp_path / "any.csv"
    path.write_text("user,item,time\n" + "".join(f"u{n % 3},i{n % 2},{n * 60}\n" for n in range(60)))
    done = run(command, "--data", str(path), "--format", "csv", option, str(path / "below"))
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"chronotope: error: {path}")


def test_results_do_not_overwrite_a_folder(run, tmp_path: Path):
    path = tmp_path / "any.csv"
    path.write_text("user,item,time\nu,i,60\nu,i,120\nu,i,180\n")
    done = run("evaluate", "--data", str(path), "--format", "csv", "--json", str(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert done.err == f"chronotope: error: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize("arguments", [["topics", "check"], ["dlq", "inspect"]], ids=" ".join)
def test_absent_broker_is_one_line_and_exit_code_1(run, arguments: list[str]):
    done = run(*arguments, "--bootstrap", "127.0.0.1:1")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "no Kafka broker answers at 127.0.0.1:1" in line


def test_wrong_setting_is_named_in_one_line(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SECURITY_PROTOCOL", "TELNET")
    done = run("topics", "check")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "CHRONOTOPE_KAFKA_SECURITY_PROTOCOL" in line


def test_setting_that_is_no_json_is_named_in_one_line(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CHRONOTOPE_EVENT_ACTION_WEIGHTS", "wishlist=2")
    path = tmp_path / "c.csv"
    path.write_text("user,item,time\nu,i,1333476009\n")
    done = run("validate", "--data", str(path), "--format", "csv")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("chronotope: error: CHRONOTOPE_EVENT_ACTION_WEIGHTS: must be JSON")


def test_a_server_that_is_told_to_serve_an_unknown_strategy_says_which_are_known(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHRONOTOPE_SERVER_STRATEGIES", '{"fussed": 1}')
    done = run("serve")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "SERVER_STRATEGIES" in line and line.endswith("'fussed' is no strategy, known are fused, popular")


def test_folder_that_cannot_be_made_is_named_in_one_line(run, tmp_path: Path):
    (tmp_path / "file").touch()
    done = run("demo", "--run-dir", str(tmp_path / "file" / "run"))
    assert done.code == 1
    _, line = done.err.splitlines()
    assert line == f"chronotope: error: {tmp_path / 'file' / 'run'}: Not a directory"


@pytest.mark.parametrize("command", ["worker", "serve"])
def test_worker_or_server_without_broker_ends_with_one_line(command: str):
    done = subprocess.run(
        [sys.executable, "-m", "chronotope", command, "--bootstrap", "127.0.0.1:1"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("chronotope: error: no Kafka broker answers at 127.0.0.1:1")


@pytest.mark.integration
@pytest.mark.parametrize("command", ["worker", "serve"])
def test_worker_or_server_without_topics_says_how_to_create_them(command: str, broker: EmbeddedBroker):
    done = subprocess.run(
        [sys.executable, "-m", "chronotope", command, "--bootstrap", broker.bootstrap],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("run chronotope topics apply")


def test_validate_counts_what_would_be_rejected(run, tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text("user,item,time,action\nu,i,1333476009,view\nu,i,1333476010,stare\nu,i,5,view\n")
    done = run("validate", "--data", str(path), "--format", "csv", "--json")
    assert done.code == 1
    report = json.loads(done.out)
    assert report["events"] == 3
    assert report["rejected"] == {"unknown_action": 1, "time_before_2000": 1}
    assert report["first_rejected"]["unknown_action"].startswith("c.csv:3:")


def test_validate_goes_on_after_a_row_that_cannot_be_read(run, tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text(
        "user,item,time,lat,lon\nu,i,never,1,2\nu,i,1333476009,95,2\nu,i,1333476009\nu,i,1333476009,1,2\n,i,5,,\n"
    )
    done = run("validate", "--data", str(path), "--format", "csv", "--json")
    assert done.code == 1
    report = json.loads(done.out)
    assert (report["events"], report["unreadable"]) == (1, 4)
    assert [each.removeprefix(f"{path}:") for each in report["first_unreadable"]] == [
        "2: time is 'never', not a time (a Unix time, or ISO 8601)", "3: lat is '95', outside -90 to 90",
        "4: has 3 columns, 5 expected", "6: user is empty",
    ]  # fmt: skip


def test_validate_goes_on_after_a_line_that_is_no_event(run, tmp_path: Path):
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{oops\n{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1333476009000}\n[]\n'
    )
    done = run("validate", "--data", str(path), "--format", "jsonl")
    assert done.code == 1
    assert "1 events, 1 users" in done.out
    assert "cannot be read: 2 rows, and a replay would end at the first" in done.out


def test_validate_counts_events_that_would_be_passed_over(run, tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text("event_id,user,item,time\na,u,i,1333476009\nb,u,i,1333476010\na,u,j,1333476011\n")
    done = run("validate", "--data", str(path), "--format", "csv")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "would be passed over: 1 events repeat an event_id"


def test_validate_shows_what_was_understood_of_the_file(run, tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text(
        "user,item,time,action,lat,lon,category\nu,i,1333476009,view,-73.9,40.7,Bar\nv,j,1333476010,cart,,,\n"
    )
    done = run("validate", "--data", str(path), "--format", "csv")
    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "actions: view 1, cart 1",
        "1 categories; 1 events have a place: latitude -73.9000 to -73.9000, longitude 40.7000 to 40.7000",
    ]


@pytest.mark.integration
def test_no_user_id_leaves_a_producer_of_pseudonyms(
    run, broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at = ["--bootstrap", broker.bootstrap]
    run("topics", "apply", *at)
    send = ["produce", "--user", "alice", "--item", "i", "--pseudonyms", *at]
    assert "CHRONOTOPE_PSEUDONYM_KEY" in run(*send).err
    monkeypatch.setenv("CHRONOTOPE_PSEUDONYM_KEY", "swordfish")
    assert run(*send).code == 0
    path = tmp_path / "c.csv"
    path.write_text("user,item,time\nalice,i,1333476009\n")
    assert run("replay", "--data", str(path), "--format", "csv", "--pseudonyms", *at).code == 0

    known_as = run("pseudonym", "alice").out.strip()
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    records = list(read_to(kafka, ends_of(kafka, EVENTS.name)))
    assert [record.key().decode() for record in records] == [known_as, known_as]
    assert [json.loads(record.value())["user_id"] for record in records] == [known_as, known_as]
    assert not any(b"alice" in record.value() for record in records)


@pytest.mark.integration
def test_what_a_catalogue_says_of_an_item_is_not_overwritten(run, broker: EmbeddedBroker, tmp_path: Path):
    at = ["--bootstrap", broker.bootstrap]
    run("topics", "apply", *at)
    kafka = KafkaSettings(bootstrap=broker.bootstrap)
    producer = Producer(kafka.confluent_producer())
    producer.produce(CATALOG.name, encode(Item(item_id="cafe", text="best coffee", version=3)), "cafe")
    producer.produce(CATALOG.name, encode(Item(item_id="bar", available=False, version=2)), "bar")
    assert producer.flush(30) == 0
    path = tmp_path / "c.csv"
    path.write_text("user,item,time\nu,cafe,1333476009\nu,bar,1333476010\nu,gym,1333476011\n")
    replayed = run("replay", "--data", str(path), "--format", "csv", "--json", *at)
    assert json.loads(replayed.out)["items_sent"] == 1
    assert json.loads(run("produce", "--user", "u", "--item", "cafe", "--json", *at).out)["items_sent"] == 0
    records = list(read_to(kafka, ends_of(kafka, CATALOG.name)))
    assert sorted(record.key() for record in records) == [b"bar", b"cafe", b"gym"]


@pytest.mark.integration
def test_events_travel_from_the_command_line_to_the_topic(run, broker: EmbeddedBroker, tmp_path: Path):
    at = ["--bootstrap", broker.bootstrap]
    assert "behavior.event.raw.v1" in run("produce", "--user", "u", "--item", "i", *at).err
    assert run("topics", "check", *at).code == 1
    assert run("topics", "apply", *at).code == 0
    assert run("topics", "check", *at).code == 0

    one = run("produce", "--user", "u", "--item", "i", "--category", "Bar", "--json", *at)
    assert json.loads(one.out) == {"events_sent": 1, "items_sent": 1}

    line = '{"event_id":"e","user_id":"u","item_id":"j","action":"view","event_time_ms":1333476009000}\n'
    assert json.loads(run("produce", "--json", *at, stdin=line * 3).out) == {"events_sent": 3, "items_sent": 1}
    assert "standard input:1" in run("produce", *at, stdin="{}\n").err

    path = tmp_path / "c.csv"
    path.write_text("user,item,time\n" + "".join(f"u{row % 7},i{row % 5},{1333476009 + row}\n" for row in range(100)))
    replayed = run("replay", "--data", str(path), "--format", "csv", "--rate", "400", "--json", *at)
    answer = json.loads(replayed.out)
    assert (answer["events_sent"], answer["items_sent"], answer["users"]) == (100, 5, 7)
    assert 0.2 < answer["seconds"] < 20
