CREATE STREAM a (id bigint, ts bigint, k string, x float) WITH (DATASOURCE="a", TIMESTAMP="ts");
CREATE STREAM b (id bigint, ts bigint, k string, y float) WITH (DATASOURCE="b", TIMESTAMP="ts");
CREATE STREAM free () WITH (DATASOURCE="free");
CREATE TABLE scan (id bigint, name string) WITH (DATASOURCE="scan", TYPE="file");
CREATE TABLE t () WITH (DATASOURCE="t", TYPE="sql", KIND="lookup");
CREATE TABLE d (id bigint, low float) WITH (DATASOURCE="d", TYPE="sql", KIND="lookup");
+ a 1000 {"id": 1, "ts": 1000, "k": "p", "x": 1}
+ a 1500 {"id": 2, "ts": 1500, "k": "q", "x": 5}
+ b 1600 {"id": 7, "ts": 1600, "k": "q", "y": 10}
+ b 1700 {"id": 8, "ts": 1700, "k": "q", "y": 20}
+ b 1800 {"id": 9, "ts": 1800, "k": "r", "y": 30}
+ a 1900 {"id": 3, "ts": 1900, "k": null, "x": 2}
+ free 2000 {"id": 1, "v": 10, "site": "north"}
+ free 2100 {"id": 2.0, "v": 20}
+ free 2200 {"id": "2", "v": 30}
+ free 2300 {"v": 40}
+ scan {"id": 1, "name": "one"}
+ scan {"id": 2, "name": "two"}
+ t {"id": 1, "name": "first", "v": 1}
+ t {"id": 2, "name": "second", "kind": "x"}
+ t {"id": 2, "name": "again", "kind": "y"}
+ d {"id": 1, "low": 5}
+ d {"id": 2, "low": 25}

-- event time
SELECT a.id AS a, b.id AS b, x, y FROM a INNER JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a, b.id AS b FROM a LEFT JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a, b.id AS b FROM a RIGHT JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a, b.id AS b FROM a FULL JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a, b.id AS b FROM a CROSS JOIN b GROUP BY TUMBLINGWINDOW(ss, 2) LIMIT 3;
-- event time
SELECT * FROM a INNER JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a, b.id AS b FROM a LEFT JOIN b ON a.k = b.k WHERE y > 15 GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT k.id AS a, m.id AS b FROM a AS k LEFT JOIN b AS m ON k.k = m.k AND m.y > 15 GROUP BY TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.k, sum(x * y) AS t FROM a INNER JOIN b ON a.k = b.k GROUP BY a.k, TUMBLINGWINDOW(ss, 2);
-- event time
SELECT a.id AS a FROM a INNER JOIN b ON a.k = b.y GROUP BY TUMBLINGWINDOW(ss, 2);
SELECT a.id AS i, name FROM a INNER JOIN scan ON a.id = scan.id;
SELECT a.id AS i, name FROM a LEFT JOIN scan ON a.id = scan.id;
SELECT * FROM free INNER JOIN t ON free.id = t.id;
SELECT free.id, t.name FROM free INNER JOIN t ON free.id = t.id;
SELECT free.id, name FROM free LEFT JOIN t ON free.id = t.id;
SELECT free.id, name, site FROM free LEFT JOIN t ON free.id = t.id AND t.kind = "x";
SELECT free.id, name FROM free INNER JOIN t ON free.id = t.id WHERE t.kind != "x";
SELECT free.id, t.name FROM free LEFT JOIN t ON t.id = free.id WHERE free.v > 10 AND t.name IS NULL;
SELECT free.id, low, name FROM free INNER JOIN d ON free.id = d.id INNER JOIN t ON t.id = d.id WHERE v > low;
SELECT free.id, low FROM free LEFT JOIN d ON free.id = d.id AND free.v > d.low;
SELECT free.id, low FROM free RIGHT JOIN d ON free.id = d.id;
SELECT count(*) AS c, t.kind FROM free INNER JOIN t ON free.id = t.id GROUP BY t.kind, COUNTWINDOW(4);
SELECT v, free.v AS w, t.v AS u FROM free INNER JOIN t ON free.id = t.id;
