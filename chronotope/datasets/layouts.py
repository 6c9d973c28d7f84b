"""How the columns of each tabular format are called, and what an event of it is."""

import msgspec


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a tabular format: for each field of an event the header names that are accepted for it.

    Names are compared in lower case, spaces and hyphens as underscores.
    ``original`` are the columns of the data set as its authors publish it (tab- or comma-separated, without a header).
    ``place_is_item`` makes the item a square of ``ITEM_CELL_DEG`` degrees, for tracks that visit no named place;
    ``entered_only`` then leaves out the points of a user that lie in the same square as the one before.
    """

    summary: str
    columns: dict[str, tuple[str, ...]]
    required: tuple[str, ...]
    action: str
    original: tuple[str, ...] = ()
    place_is_item: bool = False
    entered_only: bool = False


ITEM_CELL_DEG = 0.002
# Where a header has several of a field's names the first counts: an id before what may be only a name.
USER = ("user_id", "userid", "uid", "visitorid", "customer_id", "customerid", "user")
ITEM = ("item_id", "itemid", "venue_id", "venueid", "poi_id", "location_id", "place_id", "product_id", "poi", "item")
TIME = ("time", "time_unix_s", "time_utc", "timestamp", "event_time", "event_time_ms", "utc_time", "datetime")
SESSION = ("session", "session_id", "sessionid", "user_session")
LAT = ("lat", "latitude")
LON = ("lon", "lng", "long", "longitude")
ACTION = ("action", "event", "event_type", "behavior")
CATEGORY = ("category", "category_name", "venue_category", "venuecategory", "category_code", "type")

TRACK_COLUMNS = {"user": USER, "session": ("traj", "trajectory", *SESSION), "time": TIME, "lat": LAT, "lon": LON}

LAYOUTS: dict[str, Layout] = {
    "foursquare": Layout(
        summary="check-ins: user, venue, category, lat, lon, time (with a header, or the original TSMC2014 file)",
        columns={"user": USER, "item": ITEM, "time": TIME, "category": CATEGORY, "lat": LAT, "lon": LON},
        required=("user", "item", "time", "lat", "lon"),
        action="checkin",
        original=("user", "item", "", "category", "lat", "lon", "", "time"),
    ),
    "gowalla": Layout(
        summary="check-ins: user, venue, lat, lon, time (with a header, or the original SNAP file)",
        columns={"user": USER, "item": ITEM, "time": TIME, "lat": LAT, "lon": LON},
        required=("user", "item", "time", "lat", "lon"),
        action="checkin",
        original=("user", "time", "lat", "lon", "item"),
    ),
    "geolife": Layout(
        summary="GPS tracks: user, traj, lat, lon, time; an item is a square of 0.002 degrees",
        columns=TRACK_COLUMNS,
        required=("user", "time", "lat", "lon"),
        action="trip",
        place_is_item=True,
    ),
    "trips": Layout(
        summary="the same GPS tracks as trips through the city: one event per square that is entered",
        columns=TRACK_COLUMNS,
        required=("user", "time", "lat", "lon"),
        action="trip",
        place_is_item=True,
        entered_only=True,
    ),
    "sessions": Layout(
        summary="clicks: SessionId, ItemId, Time (with a header, or the original yoochoose file); a session is a user",
        columns={"user": SESSION, "item": ITEM, "time": TIME, "category": CATEGORY},
        required=("user", "item", "time"),
        action="click",
        original=("user", "time", "item", "category"),
    ),
    "csv": Layout(
        summary="a header: user (or session), item, time; optional: action, session, lat, lon, category, text, value, event_id",
        columns={
            "user": (*USER, *SESSION), "item": ITEM, "time": TIME, "event_id": ("event_id", "eventid"), "action": ACTION,
            "session": SESSION, "lat": LAT, "lon": LON, "category": CATEGORY, "text": ("text", "title", "name"),
            "value": ("value", "price", "amount"),
        },
        required=("user", "item", "time"),
        action="view",
    ),
}  # fmt: skip
