-- all send error, send nil
CREATE STREAM d (id bigint, at bigint, text string, zone string) WITH (DATASOURCE="d");
+ d {"id": 1, "at": 1709210096789, "text": "2024-02-29 12:34:56.789", "zone": "Asia/Tokyo"}
+ d {"id": 2, "at": 0, "text": "1999-12-31", "zone": "nowhere"}
+ d {"id": 3, "at": -1, "text": "not a date", "zone": "UTC"}
+ d {"id": 4, "at": null, "text": null, "zone": null}

SELECT id, day_name(at) AS a, day_name(text) AS b FROM d;
SELECT id, month_name(at) AS a, month_name(text) AS b FROM d;
SELECT id, day_of_month(at) AS a, day_of_month(text) AS b FROM d;
SELECT id, day(at) AS a, day(text) AS b FROM d;
SELECT id, day_of_year(at) AS a, day_of_year(text) AS b FROM d;
SELECT id, month(at) AS a, month(text) AS b FROM d;
SELECT id, hour(at) AS a, hour(text) AS b FROM d;
SELECT id, minute(at) AS a, minute(text) AS b FROM d;
SELECT id, second(at) AS a, second(text) AS b FROM d;
SELECT id, day_of_week(at) AS a, day_of_week(text) AS b FROM d;
SELECT id, microsecond(at) AS a, microsecond(text) AS b FROM d;
SELECT id, last_day(at) AS a, last_day(text) AS b FROM d;
SELECT id, to_seconds(at) AS a, to_seconds(text) AS b FROM d;
SELECT id, format_time(at, "yyyy-MM-dd HH:mm:ss") AS a, format_time(at, "EEE, d MMM yy hh:mm a XXX") AS b FROM d;
SELECT id, format_time(at, "yyyyy") AS a FROM d;
SELECT id, format_time(at, "ss.SSS") AS a, format_time(at, "ssSSS") AS b, format_time(at, "'day' d") AS c FROM d;
SELECT id, date_calc(at, "1h30m") AS a, date_calc(at, "-24h") AS b FROM d;
SELECT id, date_calc(at, "soon") AS a FROM d;
SELECT id, date_diff(at, at) AS a FROM d;
SELECT id, date_diff(text, at) AS a FROM d;
SELECT id, from_days(id) AS a, from_unix_time(id * 100000) AS b FROM d;
SELECT id, from_days(5) AS a FROM d;
SELECT id, hour("2024-01-01") AS a FROM d;
SELECT id, now() AS a, cur_time() AS b, cur_date() AS c FROM d WHERE id = 1;
SELECT id, now(3) AS a, local_timestamp(6) AS b, current_timestamp() AS c, local_time() AS d, current_time(2) AS e, current_date() AS f FROM d WHERE id = 1;
SELECT id, convert_tz(at, zone) AS a FROM d;
SELECT id, convert_tz(at, "Asia/Tokyo") AS a, hour(convert_tz(at, "Asia/Tokyo")) AS h FROM d;
SELECT id, cast(text, "datetime") > cast(at, "datetime") AS a FROM d;
SELECT id, cast(at, "datetime") = at AS a, cast(at, "datetime") < text AS b FROM d;
SELECT id, at = cast(at, "datetime") AS a FROM d;
SELECT id, tstamp() AS a, event_time() AS b, rule_start() AS c, rule_id() AS d FROM d WHERE id = 1;
SELECT id, window_start() AS a, window_end() AS b, window_trigger() AS c FROM d WHERE id = 1;
SELECT id, isnull(at) AS a, coalesce(at, text, id) AS b FROM d;
SELECT id, coalesce(text) AS a FROM d;
SELECT id, length(newuuid()) AS a FROM d WHERE id = 1;
SELECT id, props("site") AS a FROM d WHERE id = 1;
SELECT id, props("nothing") AS a FROM d WHERE id = 1;
SELECT id, delay(10, text) AS a FROM d;
SELECT id, meta(n) AS a, meta(d.n) AS b, meta(zzz) AS c FROM d;
SELECT id, meta(*)->n AS a FROM d;
SELECT id, mqtt(topic) AS a FROM d;
