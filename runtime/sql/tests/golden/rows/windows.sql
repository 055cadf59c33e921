CREATE STREAM s (id bigint, ts bigint, v float, k string) WITH (DATASOURCE="s", TIMESTAMP="ts");
+ s 1000 {"id": 1, "ts": 1000, "v": 5, "k": "a"}
+ s 2500 {"id": 2, "ts": 2500, "v": 1, "k": "b"}
+ s 4000 {"id": 3, "ts": 4000, "v": 3, "k": "a"}
+ s 6500 {"id": 4, "ts": 6500, "v": null, "k": "a"}
+ s 6600 {"id": 5, "ts": 5800, "v": 9, "k": null}
+ s 12000 {"id": 6, "ts": 12000, "v": 2, "k": "b"}
+ s 12100 {"id": 7, "ts": 3000, "v": 2, "k": "late"}
+ s 12200 {"id": 8, "v": 2, "k": "no time"}
+ s 12300 {"id": 10, "ts": 9223372036854775807, "k": "never"}
+ s 14000 {"id": 9, "ts": 14000, "v": 4, "k": "b"}

-- event time
SELECT count(*) AS c, sum(v) AS t, window_start() AS ws, window_end() AS we FROM s GROUP BY TUMBLINGWINDOW(ss, 5);
-- event time
SELECT k, count(*) AS c, avg(v) AS a FROM s GROUP BY k, TUMBLINGWINDOW(ss, 5);
-- event time
SELECT k, count(*) AS c FROM s GROUP BY k, TUMBLINGWINDOW(ss, 5) HAVING c > 1;
-- event time
SELECT k, count(*) AS c FROM s WHERE v > 2 GROUP BY k, TUMBLINGWINDOW(ss, 5);
-- event time
SELECT id, v FROM s GROUP BY TUMBLINGWINDOW(ss, 5) ORDER BY v DESC LIMIT 2;
-- event time
SELECT id, row_number() AS n, row_number() OVER (PARTITION BY k ORDER BY id DESC) AS p FROM s GROUP BY TUMBLINGWINDOW(ss, 10) ORDER BY id;
-- event time
SELECT id FROM s WHERE v > avg(v) GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
SELECT id FROM s GROUP BY TUMBLINGWINDOW(ss, 5) HAVING count(*) > 1;
-- event time
SELECT 10 / (v - 5) AS q FROM s GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
-- send error
SELECT 10 / (v - 5) AS q FROM s GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
SELECT count(DISTINCT k) AS d, count(*) FILTER(WHERE v > 2) AS f FROM s GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
SELECT median(v) AS m FROM s GROUP BY k, TUMBLINGWINDOW(ss, 5);
-- event time
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY HOPPINGWINDOW(ss, 6, 2);
-- event time
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY HOPPINGWINDOW(ss, 5, 3);
-- event time
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ss, 3);
-- event time
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SLIDINGWINDOW(ss, 3, 2) OVER(WHEN k = "a");
-- event time
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SESSIONWINDOW(ss, 60, 2);
-- event time
SELECT id FROM s GROUP BY STATEWINDOW(v > 4, v < 2);
-- event time
SELECT collect(id) AS ids FROM s GROUP BY STATEWINDOW(had_changed(true, k));
-- event time
SELECT id, event_time() AS t FROM s;
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY TUMBLINGWINDOW(ss, 5);
-- advance 30000
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY TUMBLINGWINDOW(ss, 5);
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY HOPPINGWINDOW(ss, 6, 3);
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ss, 3);
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ss, 3, 1) OVER(WHEN k = "a");
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SESSIONWINDOW(ss, 60, 2);
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY SESSIONWINDOW(ss, 2, 10);
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(4);
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(4, 2);
SELECT collect(id) AS ids FROM s WHERE v > 1 GROUP BY COUNTWINDOW(3);
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(3) FILTER(WHERE v > 1);
SELECT k, collect(id) AS ids FROM s GROUP BY k, STATEWINDOW(v > 2, v < 4) OVER(PARTITION BY k);
SELECT sum(v) AS t, lag(id) AS p FROM s GROUP BY COUNTWINDOW(3);
SELECT sum(k) AS bad FROM s GROUP BY COUNTWINDOW(3);
SELECT collect(*)[0]->id AS first, last_value(id, true) AS last FROM s GROUP BY COUNTWINDOW(3);
SELECT max(v) AS v, min(v) AS w, v AS x FROM s GROUP BY COUNTWINDOW(3);
