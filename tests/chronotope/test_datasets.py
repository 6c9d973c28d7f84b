"""Data sets become behaviour events in time order, or an error that names the file, the line and what is wrong."""

import gzip
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronotope.datasets import FORMATS, Catalogue, DatasetError, read_events
from chronotope.datasets.cells import parse_time_ms
from schemas.events import BehaviorEvent

HEADER = "time_unix_s,user_id,venue_id,category,lat,lon\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_foursquare_row_becomes_a_checkin_with_its_category(tmp_path: Path):
    path = _write(tmp_path / "a.csv", HEADER + '1333476009,470,v1,"Arts, Crafts",40.7198,-74.0025\n')
    assert list(read_events(path, "foursquare")) == [
        BehaviorEvent(
            event_id="a.csv:2:a307b994", user_id="470", item_id="v1", action="checkin", event_time_ms=1333476009000,
            lat=40.7198, lon=-74.0025, context={"category": "Arts, Crafts"},
        )
    ]  # fmt: skip


def test_original_foursquare_file_has_tabs_no_header_and_latin_1(tmp_path: Path):
    path = tmp_path / "dataset_TSMC2014_NYC.txt"
    row = "470\t49bb\t4bf5\tCafé\t40.71\t-74.00\t-240\tTue Apr 03 18:00:09 +0000 2012\n"
    path.write_bytes(row.encode("latin-1"))
    (event,) = read_events(path, "foursquare")
    assert (event.user_id, event.item_id, event.event_time_ms) == ("470", "49bb", 1333476009000)
    assert event.context == {"category": "Café"}


def test_original_gowalla_file_is_read(tmp_path: Path):
    path = _write(tmp_path / "loc.txt", "0\t2010-10-19T23:55:27Z\t30.23\t-97.79\t22847\n")
    (event,) = read_events(path, "gowalla")
    assert (event.item_id, event.lat, event.lon, event.event_time_ms) == ("22847", 30.23, -97.79, 1287532527000)


def test_geolife_point_is_a_trip_to_the_square_it_lies_in(tmp_path: Path):
    path = _write(tmp_path / "p.csv", "time_utc,user,traj,lat,lon\n2007-08-04T03:30:32Z,010,t1,39.921712,116.472343\n")
    (event,) = read_events(path, "geolife")
    assert (event.item_id, event.action, event.session_id) == ("cell:39.920,116.472", "trip", "t1")


def test_a_trip_is_told_by_the_squares_that_are_entered(tmp_path: Path):
    points = [("a", 0.0005), ("a", 0.0015), ("b", 0.0005), ("a", 0.0025), ("b", 0.0011), ("a", 0.0007)]
    rows = "".join(f"2007-08-04T03:30:{n:02}Z,{user},t,0.0,{lon}\n" for n, (user, lon) in enumerate(points))
    path = _write(tmp_path / "p.csv", "time_utc,user,traj,lat,lon\n" + rows)
    assert [(event.user_id, event.item_id) for event in read_events(path, "trips")] == [
        ("a", "cell:0.000,0.000"), ("b", "cell:0.000,0.000"), ("a", "cell:0.000,0.002"), ("a", "cell:0.000,0.000"),
    ]  # fmt: skip
    assert len(list(read_events(path, "geolife"))) == len(points)


@pytest.mark.parametrize("format", ["sessions", "csv"])
def test_clicks_without_users_take_the_session_as_user(tmp_path: Path, format: str):
    path = _write(tmp_path / "c.csv", "SessionId,ItemId,Time\n3,214716935,1396437466.94\n")
    (event,) = read_events(path, format)
    assert (event.user_id, event.item_id, event.event_time_ms, event.lat) == ("3", "214716935", 1396437466940, None)


def test_csv_reads_every_optional_column_by_any_of_its_names(tmp_path: Path):
    path = _write(
        tmp_path / "c.csv",
        "timestamp,visitorid,itemid,event,latitude,lng,title,price,session,unknown\n"
        "1396437466940,u,i,Purchase,1,2,A book,9.5,s,x\n",
    )
    (event,) = read_events(path, "csv")
    assert event == BehaviorEvent(
        event_id="c.csv:2:110944bc", user_id="u", item_id="i", action="purchase", event_time_ms=1396437466940, lat=1.0, lon=2.0,
        session_id="s", value=9.5, context={"text": "A book"},
    )  # fmt: skip


def test_a_column_of_ids_is_taken_before_one_of_names(tmp_path: Path):
    path = _write(tmp_path / "c.csv", "user,user_id,item,item_id,time\nBob,u1,Shoe,i1,1\nBob,u2,Shoe,i2,2\n")
    assert [(event.user_id, event.item_id) for event in read_events(path, "csv")] == [("u1", "i1"), ("u2", "i2")]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_the_delimiter_is_seen_in_the_header(tmp_path: Path, delimiter: str):
    rows = ("user", "item", "time", "text"), ("u", "i", "1", "one, two; three")
    path = _write(tmp_path / "c.csv", "".join(delimiter.join(f'"{cell}"' for cell in row) + "\n" for row in rows))
    (event,) = read_events(path, "csv")
    assert (event.user_id, event.item_id, event.context["text"]) == ("u", "i", "one, two; three")


def test_names_of_columns_may_be_written_for_people(tmp_path: Path):
    path = _write(tmp_path / "c.csv", "User ID,Venue-ID,Event Time,Category Name\nu,i,1,Bar\n")
    (event,) = read_events(path, "csv")
    assert (event.user_id, event.item_id, event.context) == ("u", "i", {"category": "Bar"})


def test_log_of_a_shop_with_user_and_session_is_read_by_its_own_names(tmp_path: Path):
    path = _write(
        tmp_path / "c.csv",
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,cart,44600062,2103807459595387724,apparel.shoes,shiseido,35.79,541312140,72d76fde\n",
    )
    (event,) = read_events(path, "csv")
    assert (event.user_id, event.session_id, event.item_id, event.action, event.event_time_ms, event.value, event.context) == (
        "541312140", "72d76fde", "44600062", "cart", 1_569_888_000_000, 35.79, {"category": "apparel.shoes"},
    )  # fmt: skip


def test_utf_16_with_a_byte_order_mark_is_read(tmp_path: Path):
    path = tmp_path / "c.txt"
    path.write_bytes("user\titem\ttime\nu\tcafé\t1\n".encode("utf-16"))
    assert [event.item_id for event in read_events(path, "csv")] == ["café"]


def test_a_quoted_cell_may_hold_commas_quotes_and_line_ends(tmp_path: Path):
    path = _write(tmp_path / "c.csv", 'user,item,time,text\nu,i,1,"A ""big"",\nwarm coat"\nu,j,2,Hat\n')
    assert [(event.item_id, event.context["text"]) for event in read_events(path, "csv")] == [
        ("i", 'A "big",\nwarm coat'), ("j", "Hat"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (
            'u,i,1,"Coat\nu,j,2,Hat\nu,k,3,"Shoe\n',
            "c.csv:2: a quote is not closed before line 3, which looks like a row",
        ),
        ('u,i,1,Hat\nu,i,1,"Coat\n', "c.csv:3: a quote is never closed"),
        (f'u,i,1,"{"x" * 200_000}"\n', "c.csv:2: is no row of cells: field larger than field limit"),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_row(tmp_path: Path, rows: str, what: str):
    path = _write(tmp_path / "c.csv", "user,item,time,text\n" + rows)
    with pytest.raises(DatasetError) as caught:
        list(read_events(path, "csv"))
    assert what in str(caught.value)


def test_rows_that_bring_an_id_keep_it(tmp_path: Path):
    path = _write(tmp_path / "c.csv", "event_id,user,item,time\nclick-9,u,i,1\n,u,i,2\n")
    brought, made = (event.event_id for event in read_events(path, "csv"))
    assert brought == "click-9"
    assert made.startswith("c.csv:3:")


def test_a_file_that_is_read_twice_gives_the_same_ids_and_another_file_of_its_name_others(tmp_path: Path):
    def ids(folder: str, rows: str) -> list[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        path = _write(tmp_path / folder / "clicks.csv", "user,item,time\n" + rows)
        return [event.event_id for event in read_events(path, "csv")]

    january = ids("january", "u,i,1735689600\nu,i,1735689660\n")
    assert ids("january", "u,i,1735689600\nu,i,1735689660\n") == january
    assert not {*january} & {*ids("february", "u,i,1738368000\nu,i,1738368060\n")}


def test_the_id_of_a_row_says_nothing_of_who_it_was(tmp_path: Path):
    ids = [
        next(read_events(_write(tmp_path / "c.csv", f"user,item,time\n{user},i,1\n"), "csv")).event_id
        for user in ("alice", "bob")
    ]
    assert ids[0] == ids[1]


def test_jsonl_is_the_wire_format(tmp_path: Path):
    event = BehaviorEvent(event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1)
    path = tmp_path / "e.jsonl"
    path.write_bytes(msgspec.json.encode(event) + b"\n\n")
    assert list(read_events(path, "jsonl")) == [event]


def test_gzip_is_recognised_by_content_whatever_the_name(tmp_path: Path):
    path = tmp_path / "plain.csv"
    path.write_bytes(gzip.compress(b"user,item,time\nu,i,1\n"))
    assert [event.event_time_ms for event in read_events(path, "csv")] == [1000]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_events_come_in_time_order_and_rows_of_one_time_keep_theirs(tmp_path_factory, times: list[int]):
    path = tmp_path_factory.mktemp("d") / "c.csv"
    path.write_text("user,item,time\n" + "".join(f"u,{row},{time}\n" for row, time in enumerate(times)))
    found = [(event.event_time_ms // 1000, int(event.item_id)) for event in read_events(path, "csv")]
    assert found == sorted((time, row) for row, time in enumerate(times))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("x,u,i,c,1,2", "c.csv:3: time is 'x', not a time"),
        ("nan,u,i,c,1,2", "c.csv:3: time is 'nan', not a time"),
        ("1,,i,c,1,2", "c.csv:3: user is empty"),
        ("1,u,,c,1,2", "c.csv:3: item is empty"),
        ("1,u,i,c,north,2", "c.csv:3: lat is 'north', not a number"),
        ("1,u,i,c,91,2", "c.csv:3: lat is '91', outside -90 to 90"),
        ("1,u,i,c,1,inf", "c.csv:3: lon is 'inf', not a finite number"),
        ("1,u,i,c,1,", "c.csv:3: lon is empty"),
        ("1,u,i,c,1", "c.csv:3: has 5 columns, 6 expected"),
    ],
)
def test_bad_row_is_named_by_file_line_and_column(tmp_path: Path, row: str, what: str):
    path = _write(tmp_path / "c.csv", HEADER + "1,u,i,c,1,2\n" + row + "\n")
    with pytest.raises(DatasetError) as caught:
        list(read_events(path, "foursquare"))
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("content", "format", "what"),
    [
        (b"", "csv", "is empty"),
        (b"user,item,time\n", "csv", "holds no events"),
        (b"user,item\nu,i\n", "csv", "c:1: the header lacks a column for time"),
        (b"\x1f\x8bnot gzip", "csv", "cannot be read"),
        (gzip.compress(b"user,item,time\n" + b"u,i,1\n" * 1000, mtime=0)[:-20], "csv", "cannot be read"),
        (b'{"event_id":"e"}\n', "jsonl", "c:1: Object missing required field"),
        (b"{\n", "jsonl", "c:1: Input data was truncated"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, content: bytes, format: str, what: str):
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        list(read_events(path, format))
    assert what in str(caught.value)


def test_absent_file_and_unknown_format_are_named(tmp_path: Path):
    with pytest.raises(DatasetError, match="no such file"):
        read_events(tmp_path / "none.csv", "csv")
    with pytest.raises(ValueError, match="unknown format 'xml': one of foursquare"):
        read_events(tmp_path / "none.csv", "xml")


@pytest.mark.parametrize(
    "text",
    ["1735689600.5", "1735689600500", "1735689600500000", "1735689600500000000", "1.7356896005e9", "2025-01-01 00:00:00.5",
     "2025-01-01 00:00:00.500 UTC", "2025-01-01T09:00:00.5+09:00"],
)  # fmt: skip
def test_one_moment_is_read_in_any_unit_and_zone(text: str):
    assert parse_time_ms(text) == 1_735_689_600_500


@pytest.mark.parametrize("text", ["", "yesterday", "2012-13-01", "1e400"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ValueError, match="not a time"):
        parse_time_ms(text)


def test_item_is_announced_once_with_its_category_and_place():
    event = BehaviorEvent(
        event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1, lat=1.0, lon=2.0,
        context={"category": "Bar"},
    )  # fmt: skip
    catalogue = Catalogue()
    item = catalogue.announce(event)
    assert item is not None
    assert (item.categories, item.text, item.lat, item.lon) == (["Bar"], "Bar", 1.0, 2.0)
    assert catalogue.announce(event) is None
    assert Catalogue(known=["i"]).announce(event) is None


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "format", "events", "users", "items"),
    [
        ("foursquare_nyc/checkins.csv.gz", "foursquare", 90_675, 1_070, 4_909),
        ("gowalla_100u/checkins.csv.gz", "gowalla", 20_449, 100, 6_926),
        ("yoochoose/train.csv.gz", "sessions", 70_278, 17_794, 2_933),
    ],
)
def test_real_data_is_read_whole(data_dir: Path, path: str, format: str, events: int, users: int, items: int):
    found = list(read_events(data_dir / path, format))
    assert len(found) == events
    assert len({event.user_id for event in found}) == users
    assert len({event.item_id for event in found}) == items
    assert all(earlier.event_time_ms <= later.event_time_ms for earlier, later in pairwise(found))


def test_every_format_says_what_it_reads():
    assert set(FORMATS) == {"foursquare", "gowalla", "geolife", "trips", "sessions", "csv", "jsonl"}
    assert all(FORMATS.values())
