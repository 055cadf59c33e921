CREATE STREAM s (id bigint, ts bigint, v float, k string) WITH (DATASOURCE="s", TIMESTAMP="ts");
CREATE STREAM r (id bigint, ts bigint) WITH (DATASOURCE="r", TIMESTAMP="ts");
CREATE STREAM free () WITH (DATASOURCE="free");
+ s 1000 {"id": 1, "ts": 1000, "v": 5, "k": "a"}
+ s 2500 {"id": 2, "ts": 2500, "v": 1, "k": "b"}
+ s 4000 {"id": 3, "ts": 4000, "v": 0, "k": "a"}
+ s 6000 {"id": 4, "ts": 6000, "v": null, "k": "a"}
+ r 6100 {"id": 50, "ts": 6000}
+ s 6600 {"id": 5, "ts": 5000, "v": 9, "k": null}
+ s 12000 {"id": 6, "ts": 12000, "v": 2, "k": "b"}
+ s 12100 {"id": 7, "ts": 3000, "v": 2, "k": "late"}
+ s 12200 {"id": 8, "v": 2, "k": "no time"}
+ s 12300 {"id": 9, "ts": 99000000, "v": 3, "k": "ahead"}
+ s 14000 {"id": 10, "ts": 14000, "v": 4, "k": "b"}
+ free 14500 {"v": 1}

-- event time
-- rejected
SELECT id FROM s;
-- event time
-- rejected
-- max ahead 60000
SELECT id FROM s;
-- event time
-- rejected
-- max ahead 60000
SELECT k, count(*) AS c FROM s GROUP BY k, TUMBLINGWINDOW(ss, 5);
-- rejected
SELECT 10 / v AS q FROM s;
-- rejected
SELECT id FROM s WHERE k > 5;
-- rejected
SELECT k, sum(10 / v) AS q FROM s GROUP BY k, TUMBLINGWINDOW(ss, 60);
-- event time
-- rejected
-- tolerance 10000
SELECT id FROM s;
-- event time
-- tolerance 0
-- max ahead 60000
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss, 4);
-- event time
-- no flush
-- max ahead 60000
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss, 4);
-- event time
-- max ahead 60000
SELECT s.id AS a, r.id AS b FROM s INNER JOIN r ON s.id < r.id GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
-- max ahead 60000
-- version 2
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SLIDINGWINDOW(ss, 2);
-- event time
-- max ahead 60000
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SLIDINGWINDOW(ss, 2);
-- event time
-- max ahead 60000
-- send twice
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we, window_trigger() AS wt FROM s GROUP BY SLIDINGWINDOW(ss, 2, 2);
-- event time
-- max ahead 60000
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we, window_trigger() AS wt FROM s GROUP BY SLIDINGWINDOW(ss, 2, 2);
-- event time
-- max ahead 60000
-- version 2
SELECT collect(id) AS ids, window_start() AS ws, window_end() AS we FROM s GROUP BY SLIDINGWINDOW(ss, 2, 2);
-- send twice
SELECT collect(id) AS ids, window_end() AS we, window_trigger() AS wt FROM s GROUP BY SLIDINGWINDOW(ss, 2, 2);
-- version 2
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ms, 1500);
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ms, 1500);
-- version 2
SELECT id FROM s GROUP BY TUMBLINGWINDOW(ss, 5);
-- version 2
SELECT collect(id) AS ids FROM s GROUP BY STATEWINDOW(v > 4, v < 2);
-- send meta
SELECT id FROM s WHERE id < 3;
-- send meta
SELECT * FROM free;
-- send meta
SELECT count(*) AS c FROM s GROUP BY COUNTWINDOW(2);
-- send meta
SELECT s.id FROM s INNER JOIN r ON s.id = r.id GROUP BY COUNTWINDOW(2);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(dd, 1);
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY TUMBLINGWINDOW(hh, 1);
SELECT collect(id) AS ids, window_end() AS we FROM s GROUP BY TUMBLINGWINDOW(mi, 1);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ms, 3000);
SELECT count(*) AS c FROM s GROUP BY HOPPINGWINDOW(ss, 4, 8);
SELECT count(*) AS c FROM s GROUP BY TUMBLINGWINDOW(ss, 5) FILTER(WHERE v > 1);
SELECT k, count(*) AS c FROM s GROUP BY k, HOPPINGWINDOW(ss, 6, 3) FILTER(WHERE k = "a");
SELECT v FROM s GROUP BY TUMBLINGWINDOW(ss, 5) ORDER BY v;
SELECT id, v FROM s GROUP BY TUMBLINGWINDOW(ss, 20) ORDER BY k DESC, v;
SELECT id FROM s GROUP BY TUMBLINGWINDOW(ss, 20) ORDER BY abs(v) LIMIT 3;
SELECT k, max(v) AS m FROM s GROUP BY k, TUMBLINGWINDOW(ss, 20) ORDER BY m DESC LIMIT 2;
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(3, 1);
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(2, 3);
SELECT collect(id) AS ids FROM s GROUP BY COUNTWINDOW(0);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(xx, 5);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss, 0);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss);
SELECT collect(id) AS ids FROM s GROUP BY HOPPINGWINDOW(ss, 5);
SELECT collect(id) AS ids FROM s GROUP BY SLIDINGWINDOW(ss, 5, -1);
SELECT collect(id) AS ids FROM s GROUP BY SESSIONWINDOW(ss, 5);
SELECT collect(id) AS ids FROM s GROUP BY STATEWINDOW();
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss, v);
SELECT collect(id) AS ids FROM s GROUP BY TUMBLINGWINDOW(ss, 5), HOPPINGWINDOW(ss, 5, 1);
SELECT unnest(collect(id)) AS x FROM s GROUP BY TUMBLINGWINDOW(ss, 20) LIMIT 4;
SELECT id, count(*) AS c FROM s GROUP BY SESSIONWINDOW(ss, 60, 3);
-- event time
-- max ahead 60000
SELECT collect(id) AS ids FROM s GROUP BY SESSIONWINDOW(ss, 3, 10);
-- event time
-- max ahead 60000
SELECT k, collect(id) AS ids FROM s GROUP BY k, STATEWINDOW(v > 1) OVER(PARTITION BY k);
-- event time
-- max ahead 60000
SELECT count(*) AS c, window_end() AS e FROM s WHERE v > 100 GROUP BY TUMBLINGWINDOW(ss, 5);
SELECT count(*) AS c, window_end() AS e FROM s WHERE v > 100 GROUP BY TUMBLINGWINDOW(ss, 5);
SELECT id FROM s WHERE v > 100 GROUP BY TUMBLINGWINDOW(ss, 5);
-- no push down
SELECT collect(id) AS ids, window_end() AS e FROM s WHERE v > 100 GROUP BY TUMBLINGWINDOW(ss, 5);
-- no push down
SELECT collect(id) AS ids FROM s WHERE v > 1 GROUP BY SESSIONWINDOW(ss, 60, 2);
SELECT collect(id) AS ids FROM s WHERE v > 1 GROUP BY SESSIONWINDOW(ss, 60, 2);
-- no alias references
SELECT v + 1 AS v, v + 2 AS w FROM s WHERE id = 1;
SELECT v + 1 AS v, v + 2 AS w FROM s WHERE id = 1;
SELECT k, count(*) AS c FROM s GROUP BY k, STATEWINDOW(v > 4, v < 1);
