-- all send nil
CREATE STREAM n (id bigint, v bigint, k string, ok boolean) WITH (DATASOURCE="n");
+ n {"id": 1, "v": 5, "k": "a", "ok": true}
+ n {"id": 2, "v": 5, "k": "b", "ok": false}
+ n {"id": 3, "v": null, "k": "a", "ok": true}
+ n {"id": 4, "v": 8, "k": "a", "ok": null}
+ n {"id": 5, "v": 2, "k": "b", "ok": true}

SELECT id, lag(v) AS a, lag(v, 2) AS b, lag(v, 1, 0) AS c, lag(v, 1, 0, false) AS d FROM n;
SELECT id, lag(v, 0) AS a FROM n;
SELECT id, lag(v, -1) AS a FROM n;
SELECT id, lag(v) OVER (PARTITION BY k) AS a FROM n;
SELECT id, lag(v) OVER (WHEN ok) AS a FROM n;
SELECT id, lag(v) OVER (PARTITION BY k WHEN ok = TRUE) AS a FROM n;
SELECT id, latest(v) AS a, latest(v, 0) AS b FROM n;
SELECT id, latest(v) OVER (WHEN ok) AS a FROM n;
SELECT id, changed_col(true, v) AS a, changed_col(false, v) AS b FROM n;
SELECT id, changed_col(true, v) OVER (PARTITION BY k) AS a FROM n;
SELECT id, had_changed(true, v) AS a, had_changed(false, v) AS b, had_changed(true, v, k) AS c FROM n;
SELECT id, had_changed(true, *) AS a FROM n;
SELECT id, acc_count(v) AS a, acc_sum(v) AS b FROM n;
SELECT id, acc_avg(v) AS a, acc_max(v) AS b, acc_min(v) AS c FROM n WHERE v > 0;
SELECT id, acc_sum(v, ok = TRUE, v = 8) AS a FROM n;
SELECT id, acc_count(v) OVER (PARTITION BY k) AS a FROM n;
SELECT id, changed_cols("c_", true, v, k) FROM n;
SELECT id, changed_cols("", false, v) FROM n;
SELECT id, changed_cols("c_", true, *) FROM n;
SELECT changed_cols("c_", true) FROM n;
SELECT changed_cols("c_", true, v) AS x FROM n;
SELECT id FROM n WHERE had_changed(true, k);
SELECT id FROM n WHERE lag(v) = 5 AND v > 5;
SELECT lag(v) AS p, p + 1 AS q FROM n;
SELECT id, lag(lag(v)) AS a FROM n;
SELECT id, last_hit_count() AS a, last_hit_time() AS t FROM n;
SELECT id FROM n WHERE last_hit_count() < 2 AND v > 1;
SELECT count(*) AS c, lag(id) AS a FROM n GROUP BY COUNTWINDOW(2);
SELECT id, row_number() AS r FROM n GROUP BY COUNTWINDOW(5) ORDER BY v;
SELECT id, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM n GROUP BY COUNTWINDOW(5);
SELECT id, row_number() * 10 AS r FROM n GROUP BY COUNTWINDOW(2);
SELECT id, lag(v) OVER (ORDER BY id) AS a FROM n;
SELECT id, abs(v) OVER (PARTITION BY k) AS a FROM n;
SELECT id, lag(v, k) AS a FROM n;
