-- all send error, send nil
CREATE STREAM g (id bigint, i bigint, x float, s string, b boolean, o struct(k bigint), l array(bigint)) WITH (DATASOURCE="g");
CREATE STREAM free () WITH (DATASOURCE="free");
+ g {"id": 1, "i": 7, "x": 2.5, "s": "b", "b": true, "o": {"k": 1}, "l": [1, 2]}
+ g {"id": 2, "i": 2, "x": null, "s": "a", "b": false, "o": null, "l": []}
+ g {"id": 3, "i": null, "x": -1.5, "s": "b", "o": {"k": 3}, "l": [5]}
+ g {"id": 4, "i": 7, "x": 4, "s": null, "b": true}
+ free {"k": "p", "v": 1, "w": [1, 2], "m": {"u": 1}}
+ free {"k": "q", "v": 2.5, "w": [], "m": {"u": 2, "z": 0}}
+ free {"k": "p", "v": null, "w": null}
+ free {"k": 1, "v": 7, "m": 5}

SELECT count(*) AS a, count(i) AS b, count(DISTINCT s) AS c FROM g GROUP BY COUNTWINDOW(4);
SELECT sum(i) AS a, sum(x) AS b, avg(i) AS c, avg(x) AS d FROM g GROUP BY COUNTWINDOW(4);
SELECT max(i) AS a, min(i) AS b, max(x) AS c, min(x) AS d, max(s) AS e, min(s) AS f FROM g GROUP BY COUNTWINDOW(4);
SELECT max(b) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT sum(s) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT median(x) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT median(i) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT stddev(x) AS a, stddevs(x) AS b, var(x) AS c, vars(x) AS d FROM g GROUP BY COUNTWINDOW(4);
SELECT stddevs(x) AS a FROM g WHERE id = 1 GROUP BY TUMBLINGWINDOW(ss, 60);
SELECT percentile_cont(i, 0.5) AS a, percentile_disc(i, 0.5) AS b, percentile_disc(i, 0) AS c FROM g GROUP BY COUNTWINDOW(4);
SELECT percentile_cont(i, 2) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT percentile_cont(x, 0.1) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT collect(i) AS a, collect(s) AS b FROM g GROUP BY COUNTWINDOW(4);
SELECT collect(*) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT merge_agg(o) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT merge_agg(*) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT merge_agg(i) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT deduplicate(s, true) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT deduplicate(s, false) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT last_value(i, true) AS a, last_value(x, false) AS b, last_value(s, true) AS c, last_value(s, false) AS d FROM g GROUP BY COUNTWINDOW(4);
SELECT last_value(*, true) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT sum(i) FILTER(WHERE b = TRUE) AS a, count(*) FILTER(WHERE i > 100) AS b FROM g GROUP BY COUNTWINDOW(4);
SELECT sum(DISTINCT i) AS a, avg(DISTINCT i) AS b, collect(DISTINCT i) AS c FROM g GROUP BY COUNTWINDOW(4);
SELECT sum(i + x) AS a, max(abs(x)) AS b, sum(i) / count(*) AS c, sum(i) * 1.0 / count(*) AS d FROM g GROUP BY COUNTWINDOW(4);
SELECT s, count(*) AS c FROM g GROUP BY s, COUNTWINDOW(4);
SELECT s, b, count(*) AS c, sum(i) AS t FROM g GROUP BY s, b, COUNTWINDOW(4) ORDER BY c DESC, s;
SELECT i % 2 AS p, count(*) AS c FROM g GROUP BY i % 2, COUNTWINDOW(4);
SELECT count(*) AS c FROM g GROUP BY COUNTWINDOW(4) HAVING last_agg_hit_count() < 1;
SELECT count(*) AS c, last_agg_hit_time() AS t FROM g GROUP BY COUNTWINDOW(2);
SELECT count(*) AS c FROM g WHERE i > 100 GROUP BY COUNTWINDOW(4);
SELECT count(*) AS c, sum(i) AS t FROM g WHERE id > 100 GROUP BY TUMBLINGWINDOW(ss, 5);
SELECT k, count(*) AS c FROM free GROUP BY k, COUNTWINDOW(4);
SELECT sum(v) AS a, avg(v) AS b, max(v) AS c, min(v) AS d FROM free GROUP BY COUNTWINDOW(4);
SELECT max(k) AS a FROM free GROUP BY COUNTWINDOW(4);
SELECT collect(w[0]) AS a FROM free GROUP BY COUNTWINDOW(4);
SELECT merge_agg(m) AS a, collect(m->u) AS b FROM free GROUP BY COUNTWINDOW(4);
-- star named
SELECT k, count(*) AS c, sum(v) AS t FROM free GROUP BY COUNTWINDOW(4);
-- star named
SELECT count(*) AS c, k, sum(v) AS t FROM free GROUP BY COUNTWINDOW(4);
-- star named
SELECT k, * FROM free;
-- star named
SELECT *, k AS key FROM free;
-- star named
SELECT k, count(*) AS c FROM free GROUP BY v, COUNTWINDOW(4);
-- star named
SELECT id, count(*) AS c, sum(x) AS t FROM g GROUP BY COUNTWINDOW(4);
SELECT x AS y, avg(y) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT count(*) AS c, avg(x) AS a FROM g;
SELECT id FROM g WHERE sum(i) > 5;
SELECT sum(avg(i)) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT count(i, x) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT countPlusOne(i) AS a FROM g GROUP BY COUNTWINDOW(4);
SELECT accumulateWordCount(s, " ") AS a FROM g;
SELECT echo(i) AS a FROM g;
