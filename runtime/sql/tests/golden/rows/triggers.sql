CREATE STREAM s (id bigint, a bigint, b bigint, n bigint) WITH (DATASOURCE="s");
+ s 1000 {"id": 1, "a": 0, "b": 100, "n": 200}
+ s 1100 {"id": 2, "a": 50, "b": 150, "n": 210}
+ s 1200 {"id": 3, "a": 150, "b": 900, "n": 300}
+ s 1250 {"id": 4, "a": 120, "b": 320, "n": 310}
+ s 1300 {"id": 5, "a": 0, "b": 50, "n": 320}
+ s 1400 {"id": 6, "a": 9, "b": 9, "n": 330}
+ s 1500 {"id": 7, "a": null, "b": 9, "n": 340}
+ s 1600 {"id": 8, "a": 20, "b": 30, "n": 5000}
+ s 3000 {"id": 9, "a": 4000, "b": 5000, "n": 4500}

SELECT id, dedup_trigger(a, b, n, 1000) AS parts FROM s;
-- advance 2000
SELECT id, dedup_trigger(a, b, n, 100000) AS parts FROM s;
SELECT id, dedup_trigger(a, b, n, 1000) FROM s WHERE id < 3;
SELECT id, dedup_trigger(a, b, n, id) AS parts FROM s;
SELECT id, abs(dedup_trigger(a, b, n, 1000)) AS parts FROM s;
SELECT id FROM s WHERE dedup_trigger(a, b, n, 1000) IS NULL;
SELECT dedup_trigger(a, b, n, 1000) AS x, dedup_trigger(a, b, n, 1) AS y FROM s;
SELECT dedup_trigger(a, b, n, 1000) AS x FROM s GROUP BY TUMBLINGWINDOW(ss, 1);
SELECT dedup_trigger(a, b, n) AS x FROM s;
